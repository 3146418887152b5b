"""The processes of this host, as a `Machine` sees and signals them.

They are read from /proc, because psutil's `exe()` hides " (deleted)", and because a look is quick without psutil, which
sends the signals (`bootstrap/own_psutil.py`).
"""

import os
from typing import FrozenSet, List, NamedTuple, Optional, Tuple

from fleet.onhost.bootstrap.own_psutil import loaded

DELETED = " (deleted)"


class Process(NamedTuple):
    """One process. (pid, start) is its identity within a boot; `start` is field 22 of /proc/PID/stat, in clock ticks.

    `stack` is the start of its stack (field 28): a child that has executed a new image has another one than its parent; a
    child that was only forked has the same. `title` is /proc/PID/cmdline with NULs as spaces.
    """

    pid: int
    ppid: int
    start: int
    state: str
    stack: int
    title: str


class Gone(Exception):
    """The process no longer exists; its pid may belong to another process now."""


class Processes:
    """The processes of this host."""

    def processes(self) -> List[Process]:
        """Every process of this PID namespace that exists and is not a zombie."""
        found = (self.process(int(name)) for name in os.listdir("/proc") if name.isdigit())
        return [process for process in found if process is not None and process.state not in "ZX"]

    def process(self, pid: int) -> Optional[Process]:
        """The process with this pid, zombies included, or `None`."""
        try:
            with open("/proc/%d/stat" % pid, "rb") as source:
                fields = source.read().decode("ascii", "replace").rpartition(")")[2].split()
            with open("/proc/%d/cmdline" % pid, "rb") as source:
                title = source.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except (OSError, IndexError):
            return None
        return Process(pid, int(fields[1]), int(fields[19]), fields[0], int(fields[25]), title)

    def image(self, pid: int) -> Optional[Tuple[int, int]]:
        """(device, inode) of the executable that the process runs, also after its file was replaced."""
        try:
            seen = os.stat("/proc/%d/exe" % pid)
        except OSError:
            return None
        return seen.st_dev, seen.st_ino

    def image_path(self, pid: int) -> Optional[str]:
        """The path of the executable that the process runs, also after another file was put there."""
        try:
            path = os.readlink("/proc/%d/exe" % pid)
        except OSError:
            return None
        return path[: -len(DELETED)] if path.endswith(DELETED) else path

    def image_is_deleted(self, pid: int) -> bool:
        """Whether /proc/PID/exe reads "(deleted)": the name by which the process was executed is gone."""
        try:
            return os.readlink("/proc/%d/exe" % pid).endswith(DELETED)
        except OSError:
            return False

    def leads_session(self, pid: int) -> bool:
        """Whether the process has called setsid(), as a daemon does when it starts."""
        try:
            return os.getsid(pid) == pid
        except OSError:
            return False

    def same_pid_namespace(self, pid: int) -> bool:
        """Whether the process is in our PID namespace, so that its pid means the same process here and there."""
        try:
            return os.readlink("/proc/%d/ns/pid" % pid) == os.readlink("/proc/self/ns/pid")
        except OSError:
            return False

    def socket_inodes(self, pid: int) -> FrozenSet[int]:
        """Inodes of all sockets that the process has open."""
        found = set()
        folder = "/proc/%d/fd" % pid
        try:
            names = os.listdir(folder)
        except OSError:
            return frozenset()
        for name in names:
            try:
                target = os.readlink(folder + "/" + name)
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(int(target[8:-1]))
        return frozenset(found)

    def signal(self, pid: int, start: int, signum: int) -> None:
        """Send a signal to exactly this process. Raises `Gone` when the pid belongs to another process now."""
        seen = self.process(pid)
        if seen is None or seen.start != start or seen.state in "ZX":
            raise Gone("process %d (started at tick %d) is gone" % (pid, start))
        psutil = loaded()
        try:
            psutil.Process(pid).send_signal(signum)
        except psutil.NoSuchProcess:
            raise Gone("process %d (started at tick %d) is gone" % (pid, start))
