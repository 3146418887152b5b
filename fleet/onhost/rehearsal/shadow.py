"""Folders that become writable although the mount they lie in takes no overlay, and files that look like others."""

import os
import stat
from typing import FrozenSet, List, Tuple

from fleet.onhost.rehearsal import kernel
from fleet.onhost.system.mounts import READ_ONLY, Mount
from fleet.onhost.system.xattr import copy_attributes

MOST_COPIED_BYTES = 1 << 20


def alike(source: str, target: str) -> None:
    """Give `target` the owner, mode, extended attributes and times of `source`. Raises OSError."""
    seen = os.stat(source)
    os.chown(target, seen.st_uid, seen.st_gid)
    os.chmod(target, stat.S_IMODE(seen.st_mode))
    copy_attributes(source, target)
    os.utime(target, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def shadow(mount: Mount, folder: str, place: str, private: str, empty: FrozenSet[str]) -> None:
    """Put a writable copy of a folder in its place; we are in the root of its mount, and `place` shows that mount.

    Its folders are bound there again, read-only. Small files are copied; files in `empty` and large ones have no content.
    Sockets are left out. Raises OSError.
    """
    inside = os.path.relpath(folder, mount.point)
    target = os.path.normpath("%s/%s" % (place, inside))
    os.makedirs(private)
    alike(inside, private)
    folders: List[Tuple[str, str]] = []
    for name in os.listdir(inside):
        source, copy = "%s/%s" % (inside, name), "%s/%s" % (private, name)
        seen = os.lstat(source)
        if stat.S_ISLNK(seen.st_mode):
            os.symlink(os.readlink(source), copy)
        elif stat.S_ISDIR(seen.st_mode):
            os.mkdir(copy)
            folders.append((source, "%s/%s" % (target, name)))
        elif stat.S_ISREG(seen.st_mode):
            _copy(source, copy, seen.st_size, "%s/%s" % (folder.rstrip("/"), name) in empty)
        elif stat.S_ISCHR(seen.st_mode):
            os.mknod(copy, seen.st_mode, seen.st_rdev)
            alike(source, copy)
    kernel.bind(private, target)
    for source, copy in folders:
        kernel.bind(source, copy, mount.flags | READ_ONLY)


def _copy(source: str, target: str, size: int, is_empty: bool) -> None:
    with open(target, "wb") as sink:
        if not is_empty and size <= MOST_COPIED_BYTES:
            with open(source, "rb") as data:
                sink.write(data.read())
    alike(source, target)
