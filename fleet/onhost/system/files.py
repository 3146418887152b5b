"""The files of this host, as a `Machine` reads and writes them.

What is written is flushed to disk before the method returns, because the host may lose power at any moment; but for what
a method says that a power cut may take, such as a lease, which is void after it.
"""

import errno
import fcntl
import os
import stat
import struct
import sys
from contextlib import suppress
from typing import BinaryIO, Iterator, List, Optional

from fleet.onhost.system.gunzip import content, unpacked

TEMPORARY = ".tmp."
BLOCK_BYTES = 256 << 10
# _IOR('f', 1, long) of linux/fs.h. Some processors have another bit for the direction.
IOC_READ = 0x40000000 if os.uname().machine.startswith(("ppc", "mips", "sparc", "alpha")) else 0x80000000
IMMUTABLE, APPEND_ONLY = 0x10, 0x20  # FS_IMMUTABLE_FL and FS_APPEND_FL of linux/fs.h
FS_IOC_GETFLAGS = IOC_READ | struct.calcsize("l") << 16 | ord("f") << 8 | 1


class Files:
    """The files of this host. A path that can't be read gives `None` or nothing; a write raises OSError."""

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def real_path(self, path: str) -> str:
        """The path with its links followed; as given, when a link vanishes just then (that of a process that ends)."""
        try:
            return os.path.realpath(path)
        except OSError:
            return path

    def link_target(self, path: str) -> Optional[str]:
        """What the symbolic link says, or `None` when the path is no link."""
        try:
            return os.readlink(path)
        except OSError:
            return None

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
        """At most `most_bytes` of a file from `offset`. Raises OSError. A FIFO put in its place does not block."""
        with open(path, "rb", opener=_without_waiting) as source:
            source.seek(offset)
            return source.read(most_bytes)

    def unpacked_blocks(self, path: str) -> Iterator[bytes]:
        """The content of a gzip file, in blocks; of a damaged one, as much as it holds. Raises OSError."""
        with open(path, "rb", opener=_without_waiting) as source, suppress(ValueError):
            yield from unpacked(source)

    def sha256(self, path: str) -> Optional[str]:
        """SHA-256 of a file's bytes, or `None` if it can't be read."""
        import hashlib

        digest = hashlib.sha256()
        try:
            with open(path, "rb") as source:
                for block in iter(lambda: source.read(1 << 20), b""):
                    digest.update(block)
        except OSError:
            return None
        return digest.hexdigest()

    def md5(self, path: str) -> Optional[str]:
        """MD5 of a file's bytes, as package managers note it; `None` if it can't be read, or the kernel forbids MD5 (FIPS)."""
        import hashlib

        try:
            with open(path, "rb") as source:
                return hashlib.md5(source.read()).hexdigest()  # compared with dpkg's, proves nothing
        except (OSError, ValueError):
            return None

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

    def attributes(self, path: str) -> int:
        """The attributes of chattr(1) that a file or folder has, as bits; 0 where its file system has none."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return 0
        try:
            return int(struct.unpack("l", fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(struct.calcsize("l"))))[0])
        except OSError:
            return 0
        finally:
            os.close(descriptor)

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

    def make_public_folder(self, path: str) -> None:
        """Create the folder, which everyone may read; its parent exists."""
        with suppress(FileExistsError):
            os.mkdir(path)
            os.chmod(path, 0o755)

    def remove_empty_folder(self, path: str) -> None:
        """Remove the folder, if nothing is in it."""
        with suppress(OSError):
            os.rmdir(path)

    def copy(self, source: str, target: str, like: str) -> None:
        """Copy `source` to `target`, with owner, mode, ACL, label and capabilities of `like`, and flush to disk.

        The order matters: owner, mode, then extended attributes, because chown drops capabilities.
        """
        from fleet.onhost.system.xattr import copy_attributes

        with open(source, "rb") as reader, open(target, "xb") as writer:
            for block in iter(lambda: reader.read(1 << 20), b""):
                writer.write(block)
        seen = os.stat(like)
        os.chown(target, seen.st_uid, seen.st_gid)
        os.chmod(target, stat.S_IMODE(seen.st_mode))
        copy_attributes(like, target)
        _sync(target)

    def unpack(self, source: str, target: str, most_bytes: Optional[int] = None) -> str:
        """SHA-256 of the content of `source`, which is written to the new file `target` and flushed to disk.

        `source` is a gzip file, or the content as it is. Raises OSError, and ValueError when it is a gzip file that is not
        whole, or holds more than `most_bytes`.
        """
        import hashlib

        digest = hashlib.sha256()
        left_bytes = sys.maxsize if most_bytes is None else most_bytes
        with open(source, "rb") as packed, open(target, "xb") as sink:
            for block in content(packed):
                left_bytes -= len(block)
                if left_bytes < 0:
                    raise ValueError("it holds more than %d bytes" % (most_bytes or 0))
                digest.update(block)
                sink.write(block)
            sink.flush()
            os.fsync(sink.fileno())
        return digest.hexdigest()

    def fill(self, target: str, source: BinaryIO) -> int:
        """Write all of `source` to the new file `target`, which is root's alone. Returns how many bytes. Raises OSError.

        It is not flushed to disk: `unpack` reads it, and checks what it read.
        """
        size_bytes = 0
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as sink:
            for block in iter(lambda: source.read(BLOCK_BYTES), b""):
                sink.write(block)
                size_bytes += len(block)
        return size_bytes

    def write(self, path: str, text: str, mode: int = 0o600, lasting: bool = True) -> None:
        """Replace the file's content atomically; if `lasting`, also across a power cut.

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
                if lasting:
                    os.fsync(sink.fileno())
            if lasting:
                self.rename(temporary, path)
            else:
                os.rename(temporary, path)
        except OSError:
            self.unlink(temporary)
            raise

    def append(self, path: str, line: str, lasting: bool = True) -> None:
        """Append the line and, if `lasting`, flush the file to disk.

        The rest of a line that a full disk once cut off stays on a line of its own.
        """
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b", buffering=0) as sink:
            size = os.fstat(sink.fileno()).st_size
            torn = size > 0 and os.pread(sink.fileno(), 1, size - 1) != b"\n"
            data = (b"\n" if torn else b"") + line.encode("utf-8") + b"\n"
            if sink.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            if lasting:
                os.fsync(sink.fileno())

    def flush(self, path: str) -> None:
        """Flush to disk what was appended to the file. Raises OSError."""
        _sync(path)

    def link(self, source: str, target: str) -> None:
        """Make `target` another name of the file `source`."""
        os.link(source, target)

    def rename(self, source: str, target: str) -> None:
        """Rename `source` to `target` and flush the folder to disk."""
        os.rename(source, target)
        _sync(os.path.dirname(target) or ".")

    def exchange(self, one: str, other: str) -> bool:
        """Exchange the files that two names in one folder have, at one moment, and flush the folder to disk.

        Each file keeps a name throughout, as a process that executes it can see. False, and nothing is changed, where the
        kernel or the file system can't do it. Raises OSError.
        """
        from fleet.onhost.system.exchanged_names import NO_EXCHANGE, exchanged

        code = exchanged(os.fsencode(one), os.fsencode(other))
        if code in NO_EXCHANGE:
            return False
        if code:
            raise OSError(code, os.strerror(code), one, None, other)
        _sync(os.path.dirname(other) or ".")
        return True

    def drop(self, path: str) -> None:
        """Remove the name; no error when it does not exist. A power cut may bring it back."""
        with suppress(FileNotFoundError):
            os.unlink(path)

    def unlink(self, path: str) -> None:
        """Remove the name, on the disk; no error when it does not exist."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        _sync(os.path.dirname(path) or ".")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
