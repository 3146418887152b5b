"""Whether the package manager may upgrade nginx by itself while a host is held: apt's and dnf's timers."""

import re
from typing import List, NamedTuple, Optional, Tuple

from fleet.onhost.packages.owner import Manager, Owner
from fleet.onhost.system.host_tools import TOOL_ENV, TOOL_TIMEOUT_S
from fleet.onhost.system.machine import Machine
from fleet.onhost.systemd.unit import RUNS_SYSTEMD

UNATTENDED = "/usr/bin/unattended-upgrade"
OFF = ("", "0", "off", "no", "false", "disable")
# Without these files apt reads the cache that it has on the disk, and writes a new one where that is out of date.
NO_CACHE = ("-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=")
RUNS = {
    Manager.DPKG: ("apt-daily-upgrade.service",),
    Manager.RPM: ("dnf-automatic.service", "dnf-automatic-install.service"),
}
TIMERS = ("dnf-automatic.timer", "dnf-automatic-install.timer")


class Coming(NamedTuple):
    """An upgrade of the package that may come by itself: by which program, and what is known of it."""

    by: str
    change: str


def coming_upgrade(machine: Machine, owner: Owner) -> Optional[Coming]:
    """The upgrade that apt's or dnf's timer may install at any time; `None` where there is none.

    apt says which version it would install; dnf is not asked, because it would ask its mirrors.
    """
    if owner.manager is Manager.RPM:
        timers = _active(machine, TIMERS)
        return Coming(timers[0], "it is active, and installs what is newer") if timers else None
    if owner.manager is not Manager.DPKG or not machine.exists(UNATTENDED):
        return None
    said = _output(machine, "apt-config", "shell", "every", "APT::Periodic::Unattended-Upgrade")
    matched = re.search(r"^every='(.*)'$", said, re.MULTILINE)
    if matched is None or matched.group(1).lower() in OFF:
        return None
    offered = _candidate(_output(machine, "apt-cache", *NO_CACHE + ("policy", owner.package)))
    if offered in ("", "(none)", owner.version):
        return None
    return Coming("unattended-upgrades", "%s is installed, and %s is offered" % (owner.version, offered))


def running_upgrade(machine: Machine, owner: Owner) -> Optional[str]:
    """The systemd unit by which the package manager is upgrading the host just now; `None` where none is."""
    active = _active(machine, RUNS.get(owner.manager, ()))
    return active[0] if active else None


def _candidate(policy: str) -> str:
    matched = re.search(r"^\s+Candidate: (\S+)$", policy, re.MULTILINE)
    return matched.group(1) if matched else ""


def _active(machine: Machine, units: Tuple[str, ...]) -> List[str]:
    """Those of the units that systemd calls active, or activating as a oneshot is while it runs."""
    if not units or not machine.exists(RUNS_SYSTEMD):
        return []
    states = _output(machine, "systemctl", "is-active", *units).split()
    return [unit for unit, state in zip(units, states) if state in ("active", "activating", "reloading")]


def _output(machine: Machine, *argv: str) -> str:
    """What the program prints; `systemctl is-active` ends with 3 where a unit is not."""
    return machine.run(argv, TOOL_TIMEOUT_S, env=TOOL_ENV).output
