"""The mounts of a process, as /proc/PID/mountinfo lists them (proc_pid_mountinfo(5))."""

import re
from typing import NamedTuple, Tuple

READ_ONLY, NO_SUID, NO_DEVICES, NO_EXEC = 1, 2, 4, 8
FLAGS = {"ro": READ_ONLY, "nosuid": NO_SUID, "nodev": NO_DEVICES, "noexec": NO_EXEC}


class Mount(NamedTuple):
    """One mount: its number, device (`8:1`), the folder of its file system that it shows, its mount point, its flags of
    mount(2), the kind of its file system, and that file system's options.
    """

    number: int
    device: str
    root: str
    point: str
    flags: int
    kind: str
    options: Tuple[str, ...]


def read_mounts(mountinfo: str) -> Tuple[Mount, ...]:
    """The mounts, each after the one that it lies in. Lines that can't be read are left out."""
    found = []
    for line in mountinfo.splitlines():
        left, right = line.partition(" - ")[0].split(" "), line.partition(" - ")[2].split(" ")
        if len(left) < 6 or len(right) < 3:
            continue
        options = tuple(right[2].split(","))
        flags = sum(FLAGS.get(one, 0) for one in left[5].split(","))
        if "ro" in options:
            flags |= READ_ONLY
        found.append(Mount(int(left[0]), left[2], _unescaped(left[3]), _unescaped(left[4]), flags, right[0], options))
    return tuple(sorted(found, key=lambda one: one.point.rstrip("/").count("/")))


def _unescaped(text: str) -> str:
    return re.sub(r"\\(\d{3})", lambda one: chr(int(one.group(1), 8)), text)
