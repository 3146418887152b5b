"""The private copy of the host: all that is written in it stays in memory and ends with its last process.

Each writable mount gets an overlay whose upper folder is on one tmpfs; what is mounted read-only is bound as it is. A mount
that takes no overlay (one over two others, an old kernel) is bound read-only, and `shadow` makes single folders of it
writable. Nothing outside can be reached: other programs' UNIX sockets are covered (docs/rehearsal.md).
"""

import os
import socket
import stat
from typing import Collection, Iterable, List, NamedTuple, Tuple

from fleet.onhost.rehearsal import kernel
from fleet.onhost.rehearsal.shadow import alike, shadow
from fleet.onhost.rehearsal.taken_mounts import MOUNT_ID, lies_in, read_text, used_points, worth_copying
from fleet.onhost.rehearsal.wanted import Wanted
from fleet.onhost.system.mounts import NO_DEVICES, NO_EXEC, NO_SUID, READ_ONLY, Mount, read_mounts

MOST_FILE_BYTES = 1 << 20  # A larger file that is a mount point is not copied but bound read-only.
SYSLOG = "/dev/log"


class Held(NamedTuple):
    """A mount that the copy takes over, by an open handle: it stays reachable when something else is mounted over it."""

    handle: int
    mount: Mount


class Copy(NamedTuple):
    """The tmpfs on which the copy is built, and what was noted while building."""

    folder: str
    notes: List[str]

    @property
    def root(self) -> str:
        return self.folder + "/root"

    def at(self, point: str) -> str:
        """The place of a mount point in the copy."""
        return self.root if point == "/" else self.root + point


def enter_view(pid: int, proc: int, wanted: Wanted) -> Tuple[int, Tuple[str, ...]]:
    """Build the copy of what this process sees and enter it: its root is our root then.

    The caller has mount and PID namespaces of its own. `proc` is a handle of /proc. Returns a handle of the file that takes
    what nginx says before its log is open, and notes. Raises OSError.
    """
    if not any(one.point == "/" for one in read_mounts(read_text("self/mountinfo", proc))):
        kernel.make_mount("/")  # A chroot. Step onto the new mount.
        os.chdir("/..")
        os.chroot(".")
    mounts, notes = worth_copying(read_mounts(read_text("self/mountinfo", proc)), used_points(pid, proc))
    every = _open(mounts, proc, notes)
    copy = _copy(every, wanted.most_bytes, notes)
    points = [one.mount.point for one in every]
    for number, one in enumerate(every):
        _take_over(one, number, points, copy, wanted)
    words = os.open(copy.folder + "/words", os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
    _cover_sockets(copy, wanted.foreign_sockets)
    os.chdir(copy.root)
    if not os.path.isdir("proc"):
        os.mkdir("proc")
    kernel.mount("proc", copy.root + "/proc", "proc", NO_SUID | NO_DEVICES | NO_EXEC)
    kernel.enter_root()
    for one in every:
        os.close(one.handle)
    _forget(wanted.own_sockets)
    return words, tuple(notes)


def _open(mounts: Iterable[Mount], proc: int, notes: List[str]) -> List[Held]:
    """The mounts that can be seen: not those over which another one is mounted."""
    found = []
    for one in mounts:
        try:
            handle = os.open(one.point, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            notes.append("%s is left out: %s" % (one.point, error.strerror))
            continue
        if MOUNT_ID.findall(read_text("self/fdinfo/%d" % handle, proc)) == [str(one.number)]:
            found.append(Held(handle, one))
        else:
            os.close(handle)
    return found


def _copy(every: Iterable[Held], most_bytes: int, notes: List[str]) -> Copy:
    """A tmpfs over any folder of the root where nothing else is mounted. The handles still lead to what it covers.

    The folders are listed, never asked: what is mounted there may be a dead server.
    """
    points = [one.mount.point + "/" for one in every]
    with os.scandir("/") as entries:
        folders = sorted(one.name for one in entries if one.is_dir(follow_symlinks=False) and one.name != "proc")
    free = [one for one in folders if not any(point.startswith("/%s/" % one) for point in points)]
    folder = "/" + (free or folders)[0]
    kernel.mount("tmpfs", folder, "tmpfs", NO_SUID, "mode=755,size=%d" % most_bytes)
    os.mkdir(folder + "/root")
    return Copy(folder, notes)


def _take_over(one: Held, number: int, points: Collection[str], copy: Copy, wanted: Wanted) -> None:
    """Put one mount into the copy."""
    seen, mount = os.fstat(one.handle), one.mount
    private = "%s/%d" % (copy.folder, number)
    if not stat.S_ISDIR(seen.st_mode):
        _take_over_file(one, seen, private, copy, wanted)
        return
    os.fchdir(one.handle)
    logs = [path for path in wanted.empty if lies_in(path, mount.point, points)]
    if mount.flags & READ_ONLY or mount.kind == "sysfs":
        kernel.bind(".", copy.at(mount.point), mount.flags | READ_ONLY)
        return
    if _overlay(mount, private, logs, copy):
        return
    kernel.bind(".", copy.at(mount.point), mount.flags | READ_ONLY)
    folders = {os.path.dirname(path) for path in logs}
    folders |= {path for path in wanted.writable if path == mount.point or lies_in(path, mount.point, points)}
    for index, folder in enumerate(sorted(folders)):
        try:
            shadow(mount, folder, copy.at(mount.point), "%s-%d" % (private, index), frozenset(logs))
        except OSError as error:
            copy.notes.append("%s stays read-only: %s" % (folder, error.strerror))


def _take_over_file(one: Held, seen: os.stat_result, private: str, copy: Copy, wanted: Wanted) -> None:
    """A file that is a mount point: a copy of it, empty if it is a log; a device or a large file is bound."""
    path, target = one.mount.point, copy.at(one.mount.point)
    is_log = path in wanted.empty
    is_file = stat.S_ISREG(seen.st_mode)
    if not is_file or one.mount.flags & READ_ONLY or (seen.st_size > MOST_FILE_BYTES and not is_log):
        kernel.bind(path, target, one.mount.flags | READ_ONLY if is_file else None)
        return
    with open(path, "rb") as source, open(private, "wb") as sink:
        sink.write(b"" if is_log else source.read())
    alike(path, private)
    kernel.bind(private, target)


def _overlay(mount: Mount, private: str, logs: Iterable[str], copy: Copy) -> bool:
    """Whether the current folder, a mount point, is in the copy with an overlay.

    The overlay's root has owner and mode of the upper folder. A file that is opened for writing is copied there whole, so
    logs are put there empty first.
    """
    upper, work = private + "/upper", private + "/work"
    os.makedirs(upper)
    os.mkdir(work)
    alike(".", upper)
    for path in logs:
        try:
            _put_empty(os.path.relpath(path, mount.point), upper)
        except FileNotFoundError:
            continue  # A descriptor that nginx was started with, of a file that it does not see.
        except OSError as error:
            copy.notes.append("%s: %s" % (path, error.strerror))
    try:
        data = "lowerdir=.,upperdir=%s,workdir=%s" % (upper, work)
        kernel.mount("overlay", copy.at(mount.point), "overlay", mount.flags, data)
    except OSError as error:
        copy.notes.append("%s takes no overlay (%s)" % (mount.point, os.strerror(error.errno or 0)))
        return False
    return True


def _put_empty(path: str, upper: str) -> None:
    parts = path.split("/")
    for depth in range(1, len(parts)):
        folder = "/".join(parts[:depth])
        if not os.path.isdir("%s/%s" % (upper, folder)):
            os.mkdir("%s/%s" % (upper, folder))
            alike(folder, "%s/%s" % (upper, folder))
    with open("%s/%s" % (upper, path), "wb"):
        pass
    alike(path, "%s/%s" % (upper, path))


def _cover_sockets(copy: Copy, paths: Iterable[str]) -> None:
    """Other programs' UNIX sockets can't be reached. The system log takes what it is sent, and nobody reads it."""
    cover = copy.folder + "/cover"
    with open(cover, "wb"):
        os.chmod(cover, 0o666)
    log = os.path.realpath(SYSLOG)
    for path in paths:
        try:
            if path.startswith("/") and path not in (log, SYSLOG) and stat.S_ISSOCK(os.lstat(copy.at(path)).st_mode):
                kernel.bind(cover, copy.at(path))
        except OSError:
            continue
    if os.path.exists(log) and stat.S_ISSOCK(os.stat(log).st_mode):
        sink = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sink.bind(copy.folder + "/log")
        os.chmod(copy.folder + "/log", 0o666)
        kernel.bind(copy.folder + "/log", copy.at(log))
        sink.detach()


def _forget(paths: Iterable[str]) -> None:
    """Remove the paths of the UNIX sockets that the running master listens on: bind() refuses a path that exists."""
    for path in paths:
        try:
            os.unlink(path)
        except OSError:
            continue
