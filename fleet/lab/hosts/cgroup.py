"""Limits on a host's nginx by cgroups, version 1 or 2, for the kinds with too little memory or too few processes.

The name of the group begins with the lab's prefix, so that `down` finds it.
"""

import errno
from functools import partial
from pathlib import Path

from fleet.errors import Refused
from fleet.lab.folder import LabPaths
from fleet.lab.processes import wait_until

ROOT = Path("/sys/fs/cgroup")
GROUP = "@GROUP@"
"""In the shell of a kind: replaced by the name of the host's own group."""


def folder(controller: str) -> Path:
    """The folder of this controller's groups on this machine. Raises `Refused` when the controller can't be used."""
    first = ROOT / controller
    if (first / "cgroup.procs").exists():
        return first
    try:
        enabled = (ROOT / "cgroup.subtree_control").read_text().split()
    except OSError:
        enabled = []
    if controller not in enabled:
        raise Refused(
            f"The cgroup controller {controller!r} can't be used on this machine.",
            "Leave out the kind of host that needs it, or mount cgroups with this controller.",
        )
    return ROOT


def start_inside(controller: str, command: str) -> str:
    """Shell that runs `command` inside the host's group of this controller."""
    group = f"{folder(controller)}/{GROUP}"
    return f"mkdir -p {group} && /bin/sh -c 'echo $$ >{group}/cgroup.procs && exec {command}'"


def limit(controller: str, headroom: int) -> str:
    """Shell that limits the host's group to what it uses now plus `headroom`: bytes of memory, or processes."""
    group = f"{folder(controller)}/{GROUP}"
    v1 = folder(controller) != ROOT and controller == "memory"
    has, most = ("usage_in_bytes", "limit_in_bytes") if v1 else ("current", "max")
    return f"echo $(($(cat {group}/{controller}.{has}) + {headroom})) >{group}/{controller}.{most}"


def remove(paths: LabPaths) -> None:
    """Remove the groups of the lab. Its processes must have ended."""
    for group in groups(paths):
        wait_until(partial(_removed, group), within_s=5)


def groups(paths: LabPaths) -> tuple[Path, ...]:
    """The existing groups of the lab."""
    return tuple(group for top in (ROOT, *ROOT.glob("*/")) for group in top.glob(paths.prefix + "-*/"))


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.EBUSY:  # the kernel has not yet removed the ended processes
            return False
        raise
    return True
