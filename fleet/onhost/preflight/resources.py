"""Whether the host has room for a second generation: disks, memory, processes; cgroup v1 and v2.

fleet checks this beforehand, because running out half-way does harm: a failed fork leaves the old master poisoned, and a
full disk under the pid file ends the new one (docs/nginx-facts.md, sections 2 and 3).
"""

import os
import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from fleet.onhost.preflight.subject import Subject, sized
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.system.control_groups import pid_groups
from fleet.onhost.system.files import IMMUTABLE
from fleet.onhost.system.machine import Machine
from fleet.onhost.system.memory import memory_rooms, resident_bytes
from fleet.onhost.system.mounts import read_mounts

SPARE_BYTES = 1 << 20
PID_FILE_BYTES = 64 << 10
INODES = 16
SPARE_PROCESSES = 4
SPARE_MEMORY_PERCENT = 10


class Place(NamedTuple):
    """A folder that fleet writes to: for what, how many bytes, and the reason word when it must be executable."""

    folder: str
    what: str
    need_bytes: int
    noexec: Optional[str]


def disks(subject: Subject) -> List[Finding]:
    """Whether every folder that fleet writes to has room."""
    found: List[Finding] = []
    need: Dict[int, int] = {}
    for place in _places(subject):
        folder = _there(subject.machine, place.folder)
        room = subject.machine.room(folder)
        seen = subject.machine.stat(folder)
        if room is None or seen is None:
            found.append(finding("not_checked", what=folder, why="its file system does not answer"))
            continue
        need[seen.st_dev] = need.get(seen.st_dev, 0) + place.need_bytes
        found += _folder(subject.machine, place, folder, room, need[seen.st_dev])
    return found


def state_folder(machine: Machine, state_dir: str) -> List[Finding]:
    """Whether the release can be executed in the state folder."""
    folder = _there(machine, state_dir)
    room = machine.room(folder)
    if room is None or not room.f_flag & os.ST_NOEXEC:
        return []
    return [finding("state_noexec", folder=folder, mount=mount_of(machine, folder))]


def room_for_release(machine: Machine, state_dir: str, release_bytes: int, is_uploaded: bool = False) -> List[Finding]:
    """Whether the state folder has room for the release, twice for a moment: compressed (if not yet there) and unpacked."""
    folder = _there(machine, state_dir)
    room = machine.room(folder)
    if room is None:
        return [finding("not_checked", what=folder, why="its file system does not answer")]
    need = (1 if is_uploaded else 2) * release_bytes + SPARE_BYTES
    return _folder(machine, Place(state_dir, "the release", 0, None), folder, room, need)


def memory(subject: Subject) -> List[Finding]:
    """Whether a second generation fits into the host's memory and into the limits of its control group."""
    need = sum(resident_bytes(subject.machine, pid) for pid in _family(subject))
    need += need * SPARE_MEMORY_PERCENT // 100 + SPARE_BYTES
    rooms = memory_rooms(subject.machine, subject.old.pid, "nginx")
    short = [room for room in rooms if room.free_bytes < need]
    if not short:
        return []
    where, free, limit = min(short, key=lambda room: room.free_bytes)
    return [finding("memory_short", where=where, free=sized(max(0, free)), need=sized(need), limit=limit)]


def processes(subject: Subject) -> List[Finding]:
    """Whether the process limits allow a second master with its workers."""
    need = len(_family(subject)) + SPARE_PROCESSES
    rooms = [
        ("the control group of nginx", one.limit - one.used, one.file)
        for one in pid_groups(subject.machine, subject.old.pid)
    ]
    rooms += _user_limit(subject)
    short = [room for room in rooms if room[1] < need]
    if not short:
        return []
    where, free, limit = min(short, key=lambda room: room[1])
    return [finding("pids_short", where=where, free=max(0, free), need=need, limit=limit)]


def mount_of(machine: Machine, path: str, process: str = "self") -> str:
    """The mount point of a path, as this process sees it."""
    points = [one.point for one in read_mounts(machine.read("/proc/%s/mountinfo" % process) or "")]
    under = [point for point in points if path == point or path.startswith(point.rstrip("/") + "/")]
    return max(under, key=len) if under else "/"


def _places(subject: Subject) -> Iterator[Place]:
    """The folders that fleet writes to. The old binary is kept by a hard link and by a copy in the store."""
    kept = subject.machine.stat(subject.image)
    kept_bytes = kept.st_size if kept else 0
    if subject.seen.path:
        folder = os.path.dirname(subject.seen.path)
        yield Place(folder, "the new binary", subject.release_bytes + SPARE_BYTES, "path_noexec")
    state_bytes = kept_bytes + SPARE_BYTES + (0 if subject.staged else subject.release_bytes)
    yield Place(subject.request.layout.state_dir, "the copies in fleet's state folder", state_bytes, None)
    if subject.seen.pid_file:
        yield Place(os.path.dirname(subject.seen.pid_file), "the pid file", PID_FILE_BYTES, None)


def _folder(machine: Machine, place: Place, folder: str, room: os.statvfs_result, need: int) -> List[Finding]:
    mount = mount_of(machine, machine.real_path(folder))
    if room.f_flag & os.ST_RDONLY or not machine.may_write(folder):
        return [finding("read_only", folder=folder, what=place.what, why=_why(machine, folder, room), mount=mount)]
    found = []
    if place.noexec and room.f_flag & os.ST_NOEXEC:
        found.append(finding(place.noexec, folder=folder, mount=mount))
    free = room.f_bavail * room.f_frsize
    if free < need:
        found.append(
            finding("disk_full", folder=folder, free=sized(free), what=place.what, need=sized(need), mount=mount)
        )
    if room.f_files and room.f_favail < INODES:
        found.append(finding("no_inodes", folder=folder, free=room.f_favail, need=INODES, mount=mount))
    return found


def _why(machine: Machine, folder: str, room: os.statvfs_result) -> str:
    """Why nobody may write into the folder."""
    if room.f_flag & os.ST_RDONLY:
        return "its file system is mounted read-only"
    if machine.attributes(folder) & IMMUTABLE:
        return "it is immutable, which `chattr -i %s` undoes" % folder
    return "its mode forbids it"


def _there(machine: Machine, folder: str) -> str:
    """The folder, or its nearest parent that exists."""
    while machine.stat(folder) is None and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return folder


def _family(subject: Subject) -> Tuple[int, ...]:
    children = tuple(one.pid for one in subject.machine.processes() if one.ppid == subject.old.pid)
    return (subject.old.pid,) + children


def _user_limit(subject: Subject) -> List[Tuple[str, int, str]]:
    """The processes that RLIMIT_NPROC leaves to a master that does not run as root; root is not limited."""
    machine, pid = subject.machine, subject.old.pid
    owner = machine.stat("/proc/%d" % pid)
    limit = re.search(r"^Max processes\s+(\d+)", machine.read("/proc/%d/limits" % pid) or "", re.MULTILINE)
    if owner is None or owner.st_uid == 0 or not limit:
        return []
    running = 0
    for process in machine.processes():
        seen = machine.stat("/proc/%d" % process.pid)
        if seen is not None and seen.st_uid == owner.st_uid:
            running += len(machine.names("/proc/%d/task" % process.pid))
    return [
        ("user %d" % owner.st_uid, int(limit.group(1)) - running, "nproc in limits.conf, or LimitNPROC in the unit")
    ]
