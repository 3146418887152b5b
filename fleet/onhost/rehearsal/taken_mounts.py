"""Which mounts the private copy takes over."""

import os
import re
from typing import Collection, Dict, FrozenSet, List, Set, Tuple

from fleet.onhost.system.mounts import Mount, read_mounts

NOT_FILES = frozenset(
    "proc cgroup cgroup2 devpts mqueue debugfs tracefs securityfs pstore bpf configfs efivarfs binfmt_misc selinuxfs "
    "autofs rpc_pipefs nsfs fusectl hugetlbfs".split()
)
REMOTE = re.compile(r"nfs|cifs|smb|fuse|ceph|9p|gluster|lustre|gfs|ocfs|afs|beegfs|gpfs|virtiofs")
"""File systems whose server may not answer. They are asked only where the running master uses them already."""
OWN = ("/proc", "/sys")
MOUNT_ID = re.compile(r"^mnt_id:\s*(\d+)$", re.MULTILINE)


def read_text(name: str, folder: int) -> str:
    """The text of a file below an open folder. Raises OSError."""
    with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder), "rb") as source:
        return os.fsdecode(source.read())


def used_points(pid: int, proc: int) -> FrozenSet[str]:
    """The mount points where the process has something open or mapped. This asks no file system."""
    by_number: Dict[str, str] = {}
    by_device: Dict[str, str] = {}
    for one in read_mounts(read_text("%d/mountinfo" % pid, proc)):
        by_number[str(one.number)] = by_device[one.device] = one.point
    found: Set[str] = {"/"}
    folder = os.open("%d/fdinfo" % pid, os.O_RDONLY, dir_fd=proc)
    try:
        for name in os.listdir(folder):
            found.update(by_number.get(one, "/") for one in MOUNT_ID.findall(read_text(name, folder)))
    finally:
        os.close(folder)
    for line in read_text("%d/maps" % pid, proc).splitlines():
        major, _, minor = line.split()[3].partition(":")
        found.add(by_device.get("%d:%d" % (int(major, 16), int(minor, 16)), "/"))
    return frozenset(found)


def worth_copying(mounts: Collection[Mount], used: FrozenSet[str]) -> Tuple[List[Mount], List[str]]:
    """The mounts that the copy takes over, and notes about those that it leaves out for fear of a dead server."""
    taken, notes = [], []
    for one in mounts:
        if one.kind in NOT_FILES or any(one.point.startswith(own + "/") for own in OWN):
            continue
        if REMOTE.match(one.kind) and one.point not in used:
            notes.append("%s (%s) is left out: nginx has nothing open there" % (one.point, one.kind))
        else:
            taken.append(one)
    return taken, notes


def lies_in(path: str, point: str, points: Collection[str]) -> bool:
    """Whether the path is in the mount at `point` itself, not in one below it."""
    holders = [one for one in points if one == "/" or path == one or path.startswith(one + "/")]
    return path != point and max(holders, key=len, default="/") == point
