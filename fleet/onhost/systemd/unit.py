"""The systemd unit of a process, and the state that systemd reports for it."""

from typing import Dict, NamedTuple, Optional

from fleet.onhost.system.host_tools import TOOL_ENV, TOOL_TIMEOUT_S
from fleet.onhost.system.machine import Machine

RUNS_SYSTEMD = "/run/systemd/system"


PROPERTIES = "Id,Type,PIDFile,MainPID,ActiveState"


class Followed(NamedTuple):
    """The systemd unit that nginx belongs to, and the process that systemd regards as its main process."""

    unit: str
    main_pid: int


def followed(machine: Machine, pid: int) -> Optional[Followed]:
    """The main process of this process's unit; `None` without systemd, for a unit that is not forking, or without an answer."""
    name = unit_of(machine.read("/proc/%d/cgroup" % pid) or "")
    if name is None or not machine.exists(RUNS_SYSTEMD):
        return None
    ran = machine.run(("systemctl", "show", "--property=" + PROPERTIES, name), TOOL_TIMEOUT_S, env=TOOL_ENV)
    shown = read_show(ran.output)
    main = shown.get("MainPID", "")
    if ran.code != 0 or shown.get("Type") != "forking" or not main.isdigit():
        return None
    return Followed(name, int(main))


def unit_of(cgroups: str) -> Optional[str]:
    """The systemd service in /proc/PID/cgroup, or `None` (a login session is no service)."""
    for line in cgroups.splitlines():
        number, names, path = (line.split(":", 2) + ["", ""])[:3]
        if names == "name=systemd" or (number == "0" and not names):
            services = [part for part in path.split("/") if part.endswith(".service")]
            if services:
                return services[-1]
    return None


def read_show(output: str) -> Dict[str, str]:
    """The properties that `systemctl show` printed, by name."""
    return {name: value for name, _, value in (line.partition("=") for line in output.splitlines()) if name}
