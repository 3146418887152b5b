"""What a kind of host consists of, and how a host's disk is made from it."""

import glob
import os
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleet.errors import Refused
from fleet.lab.folder import HostEntry, Init, LabPaths
from fleet.lab.hosts import cgroup, disk, dpkg, nginx, sshd, systemd
from fleet.lab.processes import PATH

Variables = tuple[tuple[str, str | bool | None], ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """A cgroup limit for nginx: what it uses once it serves, plus `headroom` (bytes of memory, or processes)."""

    controller: str
    headroom: int


@dataclass(frozen=True, slots=True)
class Kind:
    """How a host differs from the plain one.

    - `name`, `summary`: as `fleet lab kinds` prints them.
    - `init`: its PID 1. With systemd, units among its `files` start nginx, not `before`, `start` and `late`.
    - `layout`, `config`: where nginx's files are; its nginx.conf.
    - `files`: more files on its disk, by path; executable when they begin with `#!`.
    - `copied`, `hidden`: glob patterns of the machine's files that are copied to its disk, or that it doesn't have.
    - `has_dpkg`: packages can be installed on it. `installed`: those that are, beyond this machine's own.
    - `before`, `start`, `late`: shell in its /etc/rc, at every boot: before sshd, to start nginx, once nginx serves.
    - `after`: shell that runs once, after the first boot.
    - `limit`: a cgroup limit for nginx. `edit_sshd`: changes the text of its sshd_config. `user`: the login.
    - `variables`: its inventory variables; `None` removes one that all hosts have.
    - `required`: what this machine must have, as PROGRAM:PACKAGE or PATH:PACKAGE, with Debian's package.
    - `for_all`: `--with NAME` alone is for every host that has no other kind.
    """

    name: str
    summary: str
    init: Init = Init.RC
    layout: nginx.Layout = nginx.OWN
    config: str = field(default_factory=nginx.config)
    files: tuple[tuple[str, str], ...] = ()
    copied: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    has_dpkg: bool = False
    installed: tuple[str, ...] = ()
    before: str = ""
    start: str = nginx.START
    late: str = ""
    after: str = ""
    limit: Limit | None = None
    edit_sshd: Callable[[str], str] = str
    user: str = "root"
    variables: Variables = ()
    required: tuple[str, ...] = ()
    for_all: bool = False

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of the lab that its hosts have over the template."""
        return (*([dpkg.LAYER] if self.has_dpkg else []), *([systemd.LAYER] if self.init is not Init.RC else []))


def until(condition: str) -> str:
    """Shell that waits until a condition is true; after about 15 s it prints the condition and fails."""
    timed_out = f"echo {shlex.quote('timed out waiting for ' + condition)} >&2; false; break"
    return f"n=0; until {condition}; do n=$((n+1)); sleep 0.01; if [ $n -gt 1500 ]; then {timed_out}; fi; done\n"


def check(kind: Kind) -> None:
    """Check that this machine can make hosts of this kind, and download the packages of a kind that has some.

    Raises `Refused` when a program, a cgroup or a package is missing.
    """
    required = [*kind.required, *(systemd.REQUIRED if kind.init is not Init.RC else ())]
    required += dpkg.REQUIRED if kind.has_dpkg else ()
    wanted = dict(pair.split(":") for pair in required)
    missing = [name for name in wanted if not _is_here(name)]
    if missing:
        packages = sorted({wanted[name] for name in missing})
        raise Refused(
            f"A host of kind {kind.name!r} needs {', '.join(missing)}, which this machine does not have.",
            f"On Debian: apt-get install --no-install-recommends {' '.join(packages)}",
        )
    if kind.limit is not None:
        cgroup.folder(kind.limit.controller)
    cgroup.hierarchies(kind.init)
    dpkg.fetch(kind.installed)


def _is_here(name: str) -> bool:
    return bool(glob.glob(name)) if name.startswith("/") else shutil.which(name, path=PATH) is not None


def prepare_disk(paths: LabPaths, host: HostEntry, kind: Kind) -> str:
    """Make the disk of a host of this kind. Returns the public key of its sshd."""
    folder, key = disk.make_disk(paths, host, kind.layout)
    root = folder / "upper"
    config = kind.layout.config
    disk.write(root, config, kind.config)
    # An old file time: a configuration that is changed later is then plainly newer than the start of nginx.
    long_ago = time.time() - 3600
    os.utime(root / config[1:], (long_ago, long_ago))
    by_rc = kind.init is Init.RC
    disk.write(root, "/etc/ssh/sshd_config", kind.edit_sshd(sshd.config(with_pam=not by_rc)))
    if by_rc:
        disk.write(root, "/etc/rc", disk.rc(_services(kind)).replace(cgroup.GROUP, paths.link(host.number)))
    for pattern in kind.hidden:
        for path in glob.glob(pattern):
            disk.hide(root, path)
    for pattern in kind.copied:
        for path in glob.glob(pattern):
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(path), target)
    dpkg.put(root, dpkg.fetch(kind.installed))
    for path, text in kind.files:
        disk.write(root, path, text, 0o755 if text.startswith("#!") else 0o644)
    return key


def _services(kind: Kind) -> Mapping[str, str]:
    """The parts of the /etc/rc of a host of this kind, in order.

    nginx daemonizes before it has written its pid file and forked its workers, so `late` waits until it serves.
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
