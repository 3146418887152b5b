"""The guard of a held nginx: a drop-in of its unit, by which systemd refuses to stop and to restart it.

A restart would end the old master, and with it the way back; so would needrestart or a package's script. A reload still
works, and so does what comes with a shutdown of the host. The guard is in /run: a reboot ends it, as it ends the hold.
"""

from typing import List, NamedTuple, Tuple

from fleet.onhost.system.machine import Machine
from fleet.onhost.systemd import drop_in
from fleet.onhost.systemd.by_hand import drop_in_path, no_guard
from fleet.onhost.systemd.reload_lines import by_pid_file, reload_lines
from fleet.onhost.systemd.service_manager import NoAnswer, ServiceManager
from fleet.onhost.systemd.unit import Unit
from fleet.onhost.text import safe

HELD = "# Held: "
HEAD = """\
# fleet guards this unit while nginx has two masters: a stop or a restart would end the one that a rollback needs.
# A commit, a rollback and the lease remove this file. To remove it by hand, as root:
#   %s
"""
SETTINGS = """\
[Unit]
RefuseManualStop=yes
[Service]
NotifyAccess=all
"""


class Hold(NamedTuple):
    """An instance that is held, by which rollout of which operator. `at` is UTC in ISO 8601."""

    instance: str
    rollout: str
    operator: str
    at: str

    @property
    def line(self) -> str:
        facts = (self.instance, self.rollout, self.operator, self.at)
        return HELD + "instance %s, rollout %s by %s, begun %s" % tuple(safe(fact, 200) for fact in facts)


def on(manager: ServiceManager, unit: Unit, hold: Hold) -> None:
    """Guard the unit. Nothing is done where it is guarded already. Raises OSError, `NoAnswer`.

    Instances that share a unit share its guard: each has a line there.
    """
    before = drop_in.text_of(manager.machine, unit.name) or ""
    text = _text(manager.machine, unit, _holds(before, without=hold.instance) + [hold.line])
    if text == before and unit.refuses_stop:
        return
    drop_in.put(manager, unit.name, text)
    if not manager.show(unit.name).refuses_stop:
        drop_in.remove(manager, unit.name)
        raise NoAnswer("it has read %s, but the unit still takes a stop" % drop_in_path(unit.name))


def off(manager: ServiceManager, unit: str, instance: str) -> None:
    """End the guard of this instance; that of another instance of the unit stays. Raises OSError, `NoAnswer`."""
    text = drop_in.text_of(manager.machine, unit) or ""
    others = _holds(text, without=instance)
    if others:
        kept = [line for line in text.splitlines() if not line.startswith(HELD) or line in others]
        drop_in.put(manager, unit, "\n".join(kept) + "\n")
    else:
        drop_in.remove(manager, unit)


def guarded(machine: Machine, instance: str) -> List[str]:
    """The units with a guard of this instance, also where no process is left in them."""
    start = HELD + "instance %s," % instance
    return [unit for unit, text in drop_in.every(machine) if any(one.startswith(start) for one in text.splitlines())]


def is_loaded(unit: Unit) -> bool:
    """Whether systemd has fleet's drop-in in force, be its file still there or not."""
    return drop_in_path(unit.name) in unit.files


def _holds(text: str, without: str) -> List[str]:
    mine = HELD + "instance %s," % without
    return [line for line in text.splitlines() if line.startswith(HELD) and not line.startswith(mine)]


def _text(machine: Machine, unit: Unit, holds: List[str]) -> str:
    found = HEAD % no_guard(unit.name) + "\n".join(sorted(holds)) + "\n" + SETTINGS
    commands = by_pid_file(reload_lines(machine, _others(unit)), unit.pid_file, bool(unit.no_exec_paths))
    if commands is not None:
        found += "# The unit's own command names $MAINPID, which is not the master that serves.\nExecReload=\n"
        found += "".join("ExecReload=%s\n" % command for command in commands)
    return found


def _others(unit: Unit) -> Tuple[str, ...]:
    """The files of the unit but fleet's own."""
    return tuple(path for path in unit.files if path != drop_in_path(unit.name))
