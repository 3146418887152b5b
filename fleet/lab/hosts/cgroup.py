"""Limits on a host's nginx by cgroups, of version 1 or 2: for the hosts that have too little memory or too few pids.

The group carries the lab's prefix, so `down` finds it without having been told.
"""

import errno
from functools import partial
from pathlib import Path

from fleet.errors import Refused
from fleet.lab.folder import LabPaths
from fleet.lab.processes import wait_until

ROOT = Path("/sys/fs/cgroup")
GROUP = "@GROUP@"
"""Stands in a kind's shell for the name of the host's own group."""


def folder(controller: str) -> Path:
    """Where this machine keeps the groups of a controller. Raises `Refused` when it can't be used here."""
    first = ROOT / controller
    if (first / "cgroup.procs").exists():
        return first
    try:
        enabled = (ROOT / "cgroup.subtree_control").read_text().split()
    except OSError:
        enabled = []
    if controller not in enabled:
        raise Refused(
            f"lab: the cgroup controller {controller!r} can't be used on this machine.",
            "Leave out the kind of host that needs it, or mount cgroups with this controller.",
        )
    return ROOT


def start_inside(controller: str, command: str) -> str:
    """Shell that runs `command` inside the host's group of this controller."""
    group = f"{folder(controller)}/{GROUP}"
    return f"mkdir -p {group} && /bin/sh -c 'echo $$ >{group}/cgroup.procs && exec {command}'"


def limit(controller: str, headroom: int) -> str:
    """Shell that leaves the host's group so much more than it has now: bytes of memory, or processes."""
    group = f"{folder(controller)}/{GROUP}"
    v1 = folder(controller) != ROOT and controller == "memory"
    has, most = ("usage_in_bytes", "limit_in_bytes") if v1 else ("current", "max")
    return f"echo $(($(cat {group}/{controller}.{has}) + {headroom})) >{group}/{controller}.{most}"


def remove(paths: LabPaths) -> None:
    """No group of the lab is left. Its processes must be gone."""
    for group in groups(paths):
        wait_until(partial(_removed, group), within_s=5)


def groups(paths: LabPaths) -> tuple[Path, ...]:
    """The groups of the lab that are there."""
    return tuple(group for top in (ROOT, *ROOT.glob("*/")) for group in top.glob(paths.prefix + "-*/"))


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.EBUSY:  # the kernel has not yet let go of its dead
            return False
        raise
    return True
