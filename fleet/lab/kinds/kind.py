"""A kind of odd host: its shape, and how its name leads to it. The kinds are in `nginx_kinds.py` and `system_kinds.py`."""

import glob
import os
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleet.errors import Refused
from fleet.lab.folder import HostEntry, LabPaths
from fleet.lab.hosts import cgroup, disk, nginx, sshd
from fleet.lab.processes import PATH

Variables = tuple[tuple[str, str | bool | None], ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """Too little of something for a second generation: what nginx uses and no more than `headroom` beyond it."""

    controller: str
    headroom: int


@dataclass(frozen=True, slots=True)
class Kind:
    """A way in which a host differs from the plain one.

    `config` is its nginx.conf; `files` are further files of its disk, by path, executable when they begin with `#!`;
    `copied` and `hidden` are patterns of the machine's paths that it has, and that it lacks. `before`, `start` and
    `late` are shell of its /etc/rc (before sshd, for nginx, after nginx); `after` is shell that runs once, when the
    host has come up for the first time. `variables` are what the inventory says of it, `None` taking away what it says
    of all. `needs` are programs that the machine must have.
    """

    name: str
    summary: str
    config: str = field(default_factory=nginx.config)
    files: tuple[tuple[str, str], ...] = ()
    copied: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    before: str = ""
    start: str = nginx.START
    late: str = ""
    after: str = ""
    limit: Limit | None = None
    edit_sshd: Callable[[str], str] = str
    user: str = "root"
    variables: Variables = ()
    required_programs: tuple[str, ...] = ()


def until(condition: str) -> str:
    """Shell that waits until a condition is so; after some seconds it says that it isn't, and fails."""
    in_vain = f"echo {shlex.quote('waited in vain for ' + condition)} >&2; false; break"
    return f"n=0; until {condition}; do n=$((n+1)); sleep 0.01; if [ $n -gt 1500 ]; then {in_vain}; fi; done\n"


def check(kind: Kind) -> None:
    """Hosts of this kind can be made on this machine. Raises `Refused` when it lacks something."""
    missing = [program for program in kind.required_programs if shutil.which(program, path=PATH) is None]
    if missing:
        raise Refused(
            f"lab: a host of kind {kind.name!r} needs {', '.join(missing)}, which this machine doesn't have.",
            f"On Debian: apt-get install --no-install-recommends {' '.join(missing)}",
        )
    if kind.limit is not None:
        cgroup.folder(kind.limit.controller)


def prepare_disk(paths: LabPaths, host: HostEntry, kind: Kind) -> str:
    """The host's disk is there, with what its kind makes of it. Its public key."""
    folder, key = disk.make_disk(paths, host)
    root = folder / "upper"
    disk.write(root, nginx.CONFIG, kind.config)
    # As old as configurations are, so that one that is changed later is plainly younger than its nginx.
    long_ago = time.time() - 3600
    os.utime(root / nginx.CONFIG[1:], (long_ago, long_ago))
    disk.write(root, "/etc/ssh/sshd_config", kind.edit_sshd(sshd.config()))
    disk.write(root, "/etc/rc", disk.rc(_services(kind)).replace(cgroup.GROUP, paths.link(host.number)))
    for pattern in kind.hidden:
        for path in glob.glob(pattern):
            disk.hide(root, path)
    for pattern in kind.copied:
        for path in glob.glob(pattern):
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(path), target)
    for path, text in kind.files:
        disk.write(root, path, text, 0o755 if text.startswith("#!") else 0o644)
    return key


def _services(kind: Kind) -> Mapping[str, str]:
    """What the /etc/rc of a host of this kind starts, in order.

    `nginx` goes into the background before it has written its pid file and forked its workers, and what comes late is
    to find it whole.
    """
    limit = kind.limit
    if limit is None:
        start, late = kind.start, kind.late
    else:
        start = cgroup.start_inside(limit.controller, kind.start)
        late = cgroup.limit(limit.controller, limit.headroom)
    if late:
        late = until(nginx.SERVES) + late
    return {"before": kind.before, "sshd": sshd.START, "nginx": start, "late": late}
