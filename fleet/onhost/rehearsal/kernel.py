"""The kernel's calls for namespaces, mounts and credentials that Python's `os` does not have. Each raises OSError.

Linux man pages: mount(2), unshare(2), setns(2), pivot_root(2), prctl(2), capset(2).
"""

import ctypes
import os
import signal
import struct
from typing import Optional

NEW_MOUNTS, NEW_IPC, NEW_USERS, NEW_PIDS, NEW_NETWORK = 0x20000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE, _DETACH = 32, 4096, 16384, 1 << 18, 2
_PARENT_DEATH, _KEEP_CAPABILITIES, _DROP_BOUNDING, _NO_NEW_PRIVILEGES, _AMBIENT, _RAISE = 1, 8, 24, 38, 47, 2
_CAPABILITY_VERSION_3 = 0x20080522
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
MOST_CAPABILITIES = 64

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: Optional[str], target: str, kind: Optional[str], flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    words = [None if one is None else os.fsencode(one) for one in (source, target, kind)]
    _call("mount", words[0], words[1], words[2], ctypes.c_ulong(flags), os.fsencode(data))


def bind(source: str, target: str, flags: Optional[int] = None) -> None:
    """Show `source` at `target`, without what is mounted below it; with these mount flags if they are given."""
    mount(source, target, None, _BIND)
    if flags is not None:
        mount(None, target, None, _BIND | _REMOUNT | flags)


def make_private(target: str) -> None:
    """No mount below `target` reaches another namespace from now on."""
    mount(None, target, None, _RECURSIVE | _PRIVATE)


def make_mount(target: str) -> None:
    """Make the folder a mount of its own, with all that is mounted below it."""
    mount(target, target, None, _BIND | _RECURSIVE)


def detach(target: str) -> None:
    """Take the mount and all below it out of the tree; it ends with its last user."""
    _call("umount2", os.fsencode(target), _DETACH)


def enter_root() -> None:
    """Make the current folder, a mount, the root; nothing of the old root can be reached afterwards."""
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        os.chroot(".")
    else:
        _call("syscall", ctypes.c_long(number), b".", b".")
        detach(".")
    os.chdir("/")


def unshare(flags: int) -> None:
    """unshare(2)."""
    _call("unshare", flags)


def set_namespace(descriptor: int, kind: int) -> None:
    """setns(2)."""
    _call("setns", descriptor, kind)


def die_with_parent() -> None:
    """SIGKILL comes when the parent ends. A parent that ended before this call is not noticed."""
    _call("prctl", _PARENT_DEATH, signal.SIGKILL, 0, 0, 0)


def limit_capabilities(bounding: int) -> None:
    """Drop from the bounding set what is not in this mask. What the kernel does not know is ignored."""
    for number in range(MOST_CAPABILITIES):
        if not bounding >> number & 1:
            _libc.prctl(_DROP_BOUNDING, number, 0, 0, 0)


def keep_capabilities() -> None:
    """Keep the permitted capabilities when the user id changes."""
    _call("prctl", _KEEP_CAPABILITIES, 1, 0, 0, 0)


def set_capabilities(effective: int, permitted: int, inheritable: int, ambient: int) -> None:
    """Set the capabilities of this process, each a mask."""
    halves = [mask >> shift & 0xFFFFFFFF for shift in (0, 32) for mask in (effective, permitted, inheritable)]
    _call("capset", struct.pack("II", _CAPABILITY_VERSION_3, 0), struct.pack("6I", *halves))
    for number in range(MOST_CAPABILITIES):
        if ambient >> number & 1:
            _call("prctl", _AMBIENT, _RAISE, number, 0, 0)


def forbid_new_privileges() -> None:
    """No execve gives this process more privileges from now on."""
    _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, "%s: %s" % (name, os.strerror(number)))
