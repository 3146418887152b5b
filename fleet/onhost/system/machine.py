"""The whole outside world of the step script, behind one class.

Steps, preflight and verify look and act only through a `Machine`, so that a test can hand them another one: the model
nginx of the unit tests, or one that breaks at a chosen moment. Facts about processes that safety depends on (image, start
time, sockets) come from /proc, because psutil's `exe()` hides " (deleted)". psutil lists processes and sends signals.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import syslog
import time
from typing import Collection, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

import psutil

from fleet.onhost.system import sockets
from fleet.onhost.system.gunzip import unpacked
from fleet.onhost.system.sockets import Listener

if not hasattr(os, "listxattr"):
    from fleet.onhost.system.xattr import getxattr, listxattr, setxattr
else:
    from os import getxattr, listxattr, setxattr

POLL_S = 0.01
TEMPORARY = ".tmp."
CLOCK_BOOTTIME = 7  # Linux; the name came with Python 3.7


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


class Ran(NamedTuple):
    """A command that has ended. `code` is 127 when it could not be executed and -N when signal N ended it."""

    code: int
    output: str
    took_s: float


class Gone(Exception):
    """The process no longer exists; its pid may belong to another process now."""


class Machine:
    """This host."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def boottime_s(self) -> float:
        """Seconds since boot, including suspended time (CLOCK_BOOTTIME). Setting the clock does not change it."""
        return time.clock_gettime(CLOCK_BOOTTIME)

    def boot_id(self) -> str:
        """The kernel's id of this boot."""
        return (self.read("/proc/sys/kernel/random/boot_id") or "").strip()

    def age_s(self, path: str) -> float:
        """Seconds since the file was last written; 0 when it does not exist."""
        seen = self.stat(path)
        return time.time() - seen.st_mtime if seen is not None else 0.0

    def utc(self) -> str:
        """Now, as ISO 8601 in UTC with milliseconds."""
        now = time.time()
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + ".%03dZ" % (int(now * 1000) % 1000)

    def began_s(self, start: int) -> float:
        """When a process with this start time (in ticks) began, in seconds since 1970, to about 0.01 s."""
        # An interruption between the two clocks makes the difference smaller, never larger.
        booted_s = max(time.time() - time.clock_gettime(CLOCK_BOOTTIME) for _ in range(5))
        return booted_s + start / os.sysconf("SC_CLK_TCK")

    def pause(self, seconds: float = POLL_S) -> None:
        """Sleep between two looks. It never stands in for seeing the effect."""
        time.sleep(seconds)

    # Processes

    def processes(self) -> List[Process]:
        """Every process of this PID namespace that exists and is not a zombie."""
        found = (self.process(pid) for pid in psutil.pids())
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
        return path[: -len(" (deleted)")] if path.endswith(" (deleted)") else path

    def image_sha256(self, pid: int) -> Optional[str]:
        """SHA-256 of the executable that the process runs."""
        return self.sha256("/proc/%d/exe" % pid)

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

    def listeners(self, pid: int) -> Dict[int, Listener]:
        """The listening TCP and UNIX sockets and the unconnected UDP sockets of the process's network namespace, by inode."""
        return sockets.listeners("/proc/%d/net" % pid)

    def peer_inodes(self, connections: Sequence[socket.socket]) -> List[int]:
        """Inodes of the far ends of connections to this host, in the same order; 0 until a process accepts the connection."""
        return sockets.peer_inodes("/proc/self/net", connections)

    def established(self, pids: Collection[int]) -> int:
        """The number of established TCP connections of these processes."""
        found = set()
        for pid in pids:
            try:
                process = psutil.Process(pid)
                every = process.net_connections() if hasattr(process, "net_connections") else process.connections()
            except psutil.Error:
                continue
            found |= {(one.laddr, one.raddr) for one in every if one.status == psutil.CONN_ESTABLISHED}
        return len(found)

    def signal(self, pid: int, start: int, signum: int) -> None:
        """Send a signal to exactly this process. Raises `Gone` when the pid belongs to another process now."""
        seen = self.process(pid)
        if seen is None or seen.start != start or seen.state in "ZX":
            raise Gone("process %d (started at tick %d) is gone" % (pid, start))
        try:
            psutil.Process(pid).send_signal(signum)
        except psutil.NoSuchProcess:
            raise Gone("process %d (started at tick %d) is gone" % (pid, start))

    def syslog(self, text: str) -> None:
        """Write a line to the host's syslog."""
        syslog.syslog(syslog.LOG_NOTICE | syslog.LOG_DAEMON, "fleet: " + text)

    # Files

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def real_path(self, path: str) -> str:
        return os.path.realpath(path)

    def stat(self, path: str) -> Optional[os.stat_result]:
        """`stat` of the path, following links, or `None`."""
        try:
            return os.stat(path)
        except OSError:
            return None

    def read(self, path: str) -> Optional[str]:
        """The text of a file, or `None` if it can't be read."""
        try:
            with open(path, "rb") as source:
                return source.read().decode("utf-8", "replace")
        except OSError:
            return None

    def read_from(self, path: str, offset: int, most_bytes: int) -> bytes:
        """At most `most_bytes` of a file from `offset`. Raises OSError."""
        with open(path, "rb") as source:
            source.seek(offset)
            return source.read(most_bytes)

    def sha256(self, path: str) -> Optional[str]:
        """SHA-256 of a file's bytes, or `None` if it can't be read."""
        digest = hashlib.sha256()
        try:
            with open(path, "rb") as source:
                for block in iter(lambda: source.read(1 << 20), b""):
                    digest.update(block)
        except OSError:
            return None
        return digest.hexdigest()

    def names(self, folder: str) -> List[str]:
        """The names in a folder; empty if there is no such folder."""
        try:
            return sorted(os.listdir(folder))
        except OSError:
            return []

    def room(self, path: str) -> Optional[os.statvfs_result]:
        """Free space and mount options of the file system that holds this path, or `None`."""
        try:
            return os.statvfs(path)
        except OSError:
            return None

    def may_write(self, folder: str) -> bool:
        """Whether this process may create files in the folder."""
        return os.access(folder, os.W_OK | os.X_OK)

    def locked_by(self, path: str) -> Optional[int]:
        """The pid that holds a POSIX lock on the file (0: a process in another namespace), or `None`. Takes no lock itself."""
        wanted = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        try:
            with open(path, "rb") as source:
                found = struct.unpack("hhqqi", fcntl.fcntl(source, fcntl.F_GETLK, wanted))
        except OSError:
            return None
        return None if found[0] == fcntl.F_UNLCK else max(0, found[4])

    def make_folder(self, path: str) -> None:
        """Create the folder and its parents; new ones belong to root alone."""
        os.makedirs(path, mode=0o700, exist_ok=True)

    def copy(self, source: str, target: str, like: str) -> None:
        """Copy `source` to `target`, with owner, mode, ACL, label and capabilities of `like`, and flush to disk.

        The order matters: owner, mode, then extended attributes, because chown drops capabilities.
        """
        with open(source, "rb") as reader, open(target, "xb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
        seen = os.stat(like)
        os.chown(target, seen.st_uid, seen.st_gid)
        os.chmod(target, stat.S_IMODE(seen.st_mode))
        for name in listxattr(like):
            try:
                setxattr(target, name, getxattr(like, name))
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.ENODATA):
                    raise
        descriptor = os.open(target, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def unpack(self, source: str, target: str, most_bytes: Optional[int] = None) -> str:
        """SHA-256 of the content of the gzip file `source`, which is written to the new file `target` and flushed to disk.

        Raises OSError, and ValueError when `source` is not a whole gzip file or holds more than `most_bytes`.
        """
        digest = hashlib.sha256()
        left_bytes = sys.maxsize if most_bytes is None else most_bytes
        with open(source, "rb") as packed, open(target, "xb") as sink:
            for block in unpacked(packed):
                left_bytes -= len(block)
                if left_bytes < 0:
                    raise ValueError("it holds more than %d bytes" % (most_bytes or 0))
                digest.update(block)
                sink.write(block)
            sink.flush()
            os.fsync(sink.fileno())
        return digest.hexdigest()

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        """Replace the file's content atomically, also across a power cut.

        The folder of a pid file may belong to another user: a link that this user has put there is never followed.
        """
        temporary = "%s%s%d" % (path, TEMPORARY, os.getpid())
        try:
            self.unlink(temporary)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with open(os.open(temporary, flags, mode), "w") as sink:
                os.fchmod(sink.fileno(), mode)
                sink.write(text)
                sink.flush()
                os.fsync(sink.fileno())
            self.rename(temporary, path)
        except OSError:
            self.unlink(temporary)
            raise

    def append(self, path: str, line: str) -> None:
        """Append the line and flush to disk. The rest of a line that a full disk once cut off stays on a line of its own."""
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b", buffering=0) as sink:
            size = os.fstat(sink.fileno()).st_size
            torn = size > 0 and os.pread(sink.fileno(), 1, size - 1) != b"\n"
            data = (b"\n" if torn else b"") + line.encode("utf-8") + b"\n"
            if sink.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            os.fsync(sink.fileno())

    def link(self, source: str, target: str) -> None:
        """Make `target` another name of the file `source`."""
        os.link(source, target)

    def rename(self, source: str, target: str) -> None:
        """Rename `source` to `target` and flush the folder to disk."""
        os.rename(source, target)
        self._sync_folder(os.path.dirname(target))

    def unlink(self, path: str) -> None:
        """Remove the name; no error when it does not exist."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        self._sync_folder(os.path.dirname(path))

    def _sync_folder(self, folder: str) -> None:
        descriptor = os.open(folder or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    # Programs and the network

    def run(self, argv: Tuple[str, ...], timeout_s: float, env: Optional[Dict[str, str]] = None, cwd: str = "/") -> Ran:
        """Run a program to its end, with both outputs joined, in an empty environment unless one is given."""
        began = time.monotonic()
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                env={} if env is None else env,
                cwd=cwd,
            )
        except subprocess.TimeoutExpired as error:
            output = (error.output or b"").decode("utf-8", "replace")
            return Ran(124, output + "(no end after %.0f s)" % timeout_s, time.monotonic() - began)
        except OSError as error:
            return Ran(127, str(error), time.monotonic() - began)
        return Ran(done.returncode, done.stdout.decode("utf-8", "replace"), time.monotonic() - began)

    def user(self) -> int:
        """The effective user id; 0 is root."""
        return os.geteuid()

    def addresses(self, host: str) -> Tuple[str, ...]:
        """All addresses of a name according to this host's resolver; empty when it has none."""
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return ()
        return tuple(sorted({str(one[4][0]) for one in found}))

    def bind_error(self, kind: str, host: str, port: int) -> Optional[str]:
        """Why a server can't bind this address now, or `None` if it can. `kind` is `tcp`, `tcp6`, `udp` or `udp6`."""
        family = socket.AF_INET6 if kind.endswith("6") else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM if kind.startswith("udp") else socket.SOCK_STREAM) as tried:
            if tried.type == socket.SOCK_STREAM:  # a UDP socket that may share would always be told yes
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                tried.bind((host, port))
            except OSError as error:
                return error.strerror
        return None

    def dial(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """An open TCP connection. Raises OSError."""
        return socket.create_connection((host, port), timeout=timeout_s)

    def dial_unix(self, path: str, timeout_s: float) -> socket.socket:
        """An open connection to a UNIX socket. Raises OSError."""
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        found.settimeout(timeout_s)
        try:
            found.connect(path)
        except OSError:
            found.close()
            raise
        return found
