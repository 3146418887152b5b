"""What a host's files look like, inode by inode: to see that something left no trace on them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fleet.lab.hosts.lab_host import LabHost
from tests.support.lab.inside import MASTER, Inside

MOUNTED = ("/run", "/dev/shm")
"""File systems of a lab host beside its root."""
OURS = ("/opt/puppet", "/var/lib/fleet", "/var/log/sshd.log")
"""What a test, or the release's way to the host, writes there."""


class Inode(NamedTuple):
    """All that `stat` and the extended attributes tell of a file; the size and times of one that traffic writes are 0."""

    number: int
    mode: int
    owner: int
    group: int
    links: int
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    attributes: tuple[tuple[str, bytes], ...]


def inodes(host: LabHost, written: frozenset[str] = frozenset(), own_folders: tuple[str, ...] = ()) -> dict[str, Inode]:
    """Every file that differs from the disk's template, and those of the host's other file systems, by path.

    `written` are files that traffic writes; `own_folders` are those that only nginx sees. A file that is only read never gets
    into the upper folder of an overlay, so a new one there is a trace.
    """
    inside = Inside(host)
    found = {}
    tops = [("", host.disk)] + [(path, inside.path(path)) for path in MOUNTED]
    master = next(one.pid for one in inside.processes() if one.title.startswith(MASTER))
    tops += [(path, Path(f"/proc/{master}/root{path}")) for path in own_folders]
    for name, top in tops:
        for path in _below(top):
            shown = f"{name}/{path.relative_to(top)}"
            if not shown.startswith(OURS):
                found[shown] = _inode(path, shown in written)
    return found


def _below(top: Path) -> Iterator[Path]:
    yield top
    for folder, names, files in os.walk(top):
        yield from (Path(folder, name) for name in [*names, *files])


def _inode(path: Path, is_written: bool) -> Inode:
    seen = path.lstat()
    names = [] if stat.S_ISLNK(seen.st_mode) else sorted(os.listxattr(path))
    values = tuple((name, os.getxattr(path, name)) for name in names)
    size, mtime_ns, ctime_ns = (0, 0, 0) if is_written else (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
    return Inode(
        seen.st_ino,
        seen.st_mode,
        seen.st_uid,
        seen.st_gid,
        seen.st_nlink,
        size,
        mtime_ns,
        ctime_ns,
        seen.st_rdev,
        values,
    )


def differences(before: dict[str, Inode], after: dict[str, Inode]) -> dict[str, tuple[Inode | None, Inode | None]]:
    """The files that are new, gone or other."""
    paths = sorted(before.keys() | after.keys())
    return {path: (before.get(path), after.get(path)) for path in paths if before.get(path) != after.get(path)}
