"""Why a unit can't have an nginx that changes its master: systemd would end all of it when the old master exits.

When the main process of a forking unit ends, systemd reads the pid file again. Without the right pid file, it takes the unit
for ended and, but with KillMode=process, ends every process in it (docs/systemd.md).
"""

from typing import Dict, NamedTuple, Optional

from fleet.onhost.system.machine import Machine
from fleet.onhost.systemd import by_hand
from fleet.onhost.systemd.unit import Unit


class Misfit(NamedTuple):
    """The word of the reason, with its facts."""

    word: str
    facts: Dict[str, object]


def misfit(machine: Machine, unit: Unit, pid_file: Optional[str], pid: int) -> Optional[Misfit]:
    """Why this unit, whose main process is the master `pid`, would end nginx; `None` if it would not.

    The settings of a unit that was masked since, or whose file is gone, are lost at the next `daemon-reload`.
    """
    own, theirs = pid_file or "", unit.pid_file
    if not unit.is_there:
        return Misfit("unit_lost", {"unit": unit.name, "cure": by_hand.regain(unit.name)})
    if not unit.owns_nginx:
        facts = {"pid": pid, "unit": unit.name, "type": unit.type or "unknown", "pid_file": own}
        return Misfit("unit_type", facts)
    if unit.type == "forking" and (not theirs or machine.real_path(theirs) != machine.real_path(own)):
        has = "PIDFile=%s" % theirs if theirs else "no PIDFile="
        return Misfit("unit_pid_file", {"unit": unit.name, "has": has, "pid_file": own})
    return None
