"""A process in a unit of its own (systemd-run), which lives on when the login that started it has ended.

Where logind has `KillUserProcesses=yes`, the end of a login ends everything in its session scope, also what root left
there by sudo with a session and a process group of its own (logind.conf(5)).
"""

import re
from typing import Dict, Optional, Tuple

from fleet.onhost.system.host_tools import TOOL_ENV
from fleet.onhost.system.machine import Machine
from fleet.onhost.systemd.unit import RUNS_SYSTEMD, read_show, session_of

PATIENCE_S = 10.0
LATER = ("--collect", "--property=Restart=on-failure", "--property=RestartSec=1")
"""Started again if it crashes or is killed, but for a clean stop, and at most five times in ten seconds; no trace is left
of a failed one. Needs systemd 236: an older one is asked without."""


class NoUnit(Exception):
    """systemd could not start it."""


def can_have_units(machine: Machine) -> bool:
    """Whether systemd is PID 1 here (sd_booted(3))."""
    return machine.exists(RUNS_SYSTEMD)


def start(machine: Machine, unit: str, title: str, words: Tuple[str, ...], environment: Tuple[str, ...]) -> None:
    """Have systemd start the command as this service, in systemd's own environment and these `NAME=VALUE`.

    Its output goes to the host's journal. A name that was used before must not come again: a failed unit may still be
    there. Raises `NoUnit`, also when systemd does not answer in time; the service may then come up later.
    """
    common = ("--unit=" + unit, "--description=" + title, "--no-ask-password")
    given = tuple("--setenv=" + one for one in environment)
    for settings in (LATER, ()):
        ran = machine.run(("systemd-run",) + common + settings + given + ("--",) + words, PATIENCE_S, env=TOOL_ENV)
        if ran.code == 0:
            return
        if ran.code in (124, 127):
            break
    raise NoUnit("systemd-run: %s" % (" ".join(ran.output.split()) or "exit code %d" % ran.code))


def is_active(machine: Machine, unit: str) -> bool:
    """Whether the service runs, comes up, or will be started again."""
    ran = machine.run(("systemctl", "show", "--property=ActiveState", unit), PATIENCE_S, env=TOOL_ENV)
    return ran.code != 0 or not re.search("=(?:inactive|failed)$", ran.output.strip())


def ends_at_logout(machine: Machine, pid: Optional[int] = None) -> bool:
    """Whether the process, or this one, ends with the login that it came by; so does all that it leaves running.

    What logind does not say counts as yes.
    """
    scope = session_of(machine.read("/proc/%s/cgroup" % (pid or "self")) or "")
    if scope is None or not can_have_units(machine):
        return False
    said = _loginctl(machine, "show-user")
    if said.get("KillUserProcesses", "yes") != "yes":
        return False
    name = _loginctl(machine, "show-session", scope[len("session-") : -len(".scope")]).get("Name", "")
    only = said.get("KillOnlyUsers", "").split()
    return name not in said.get("KillExcludeUsers", "root").split() and (not only or name in only)


def _loginctl(machine: Machine, *words: str) -> Dict[str, str]:
    ran = machine.run(("loginctl",) + words, PATIENCE_S, env=TOOL_ENV)
    return read_show(ran.output) if ran.code == 0 else {}
