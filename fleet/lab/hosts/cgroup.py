"""The cgroups of a host, version 1 or 2: its own tree, when systemd is its PID 1, or a limit on its nginx, for the kinds
with too little memory or too few processes.

The name of a group begins with the lab's prefix, so that `down` finds it.
"""

import errno
import os
from functools import partial
from pathlib import Path

from fleet.errors import Refused
from fleet.lab.folder import Init, LabPaths
from fleet.lab.processes import wait_until

ROOT = Path("/sys/fs/cgroup")
HYBRID = ("memory", "pids")
"""The controllers of version 1 that a host with the hybrid of both versions has."""
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


def unified() -> Path:
    """Where cgroup version 2 is mounted. Raises `Refused` when it is not, or can't be written to."""
    for folder in (ROOT, ROOT / "unified"):
        if (folder / "cgroup.controllers").exists() and not os.statvfs(folder).f_flag & os.ST_RDONLY:
            return folder
    raise Refused(
        f"This machine has no cgroups of version 2 that can be written to, at {ROOT} or {ROOT}/unified.",
        "Leave out the kinds of host with systemd, or mount cgroup2 there.",
    )


def hierarchies(init: Init) -> tuple[Path, ...]:
    """The hierarchies of which a host with this init has a part as its own. Raises `Refused` when one can't be used."""
    if init is Init.RC:
        return ()
    if init is Init.SYSTEMD:
        return (unified(),)
    missing = [name for name in (*HYBRID, "systemd") if not os.access(ROOT / name / "cgroup.procs", os.W_OK)]
    if missing:
        raise Refused(
            f"This machine has no cgroups of version 1 at {ROOT} for {', '.join(missing)}.",
            "Leave out the kinds of host with the hybrid of both versions, or mount these.",
        )
    return (unified(), *(ROOT / name for name in (*HYBRID, "systemd")))


def remove(paths: LabPaths, number: int | None = None) -> None:
    """Remove the groups of the lab, or of one host, with all below them. Their processes must have ended."""
    for group in groups(paths, number):
        wait_until(partial(_removed, group), within_s=5)


def groups(paths: LabPaths, number: int | None = None) -> tuple[Path, ...]:
    """The existing groups of the lab, or of one host."""
    name = f"{paths.prefix}-*" if number is None else paths.link(number)
    return tuple(group for top in (ROOT, *ROOT.glob("*/")) for group in top.glob(f"{name}/"))


def _removed(group: Path) -> bool:
    try:
        for folder, _, _ in os.walk(group, topdown=False):
            os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.EBUSY:  # the kernel has not yet removed the ended processes
            return False
        raise
    return True
