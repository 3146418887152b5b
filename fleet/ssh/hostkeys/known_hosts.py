"""The keys that known_hosts files hold for a name, read as OpenSSH reads them.

paramiko's reader fails on a line with a marker, ignores patterns and keeps one key per type. `known_hosts_file` handles
hashed names, patterns and markers as `ssh-keygen -F` does. Each file is read once, and again when it has changed.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

from fleet.ssh.hostkeys.known_hosts_file import Lines
from fleet.ssh.link_errors import LinkError

REVOKED = "@revoked"
AUTHORITY = "@cert-authority"
State = tuple[int, int, int]
"""Modification time in ns, size and inode of a file."""
_READING = Lock()


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A line of known_hosts about the host. `marker` is empty for a plain key."""

    file: str
    line: int
    marker: str
    type: str
    blob: bytes

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def description(self) -> str:
        """The key and its place, for people."""
        return f"{self.type} {fingerprint(self.blob)} ({self.where})"


def keys_of(files: tuple[str, ...], name: str) -> tuple[KnownKey, ...]:
    """The files' keys for the name, in their order. A missing file is empty. Raises `LinkError` when one can't be read."""
    found: list[KnownKey] = []
    for file in files:
        try:
            seen = Path(file).stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:  # it may hold a revoked key, in a folder that fleet can't read
            raise _unreadable(file, error.strerror or str(error)) from error
        found.extend(_find(file, name, (seen.st_mtime_ns, seen.st_size, seen.st_ino)))
    return tuple(found)


def fingerprint(blob: bytes) -> str:
    """As `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


@lru_cache(maxsize=8192)
def _find(file: str, name: str, state: State) -> tuple[KnownKey, ...]:
    """The keys in `file` for `name`. `state` is part of the cache key, so that a changed file is read again."""
    with _READING:  # all visits begin at once; one of them reads, the others wait and find it in the cache
        lines = _lines_in(file, state)
    return tuple(_parsed(file, lines.about(name)))


@lru_cache(maxsize=16)
def _lines_in(file: str, state: State) -> Lines:
    try:
        return Lines(Path(file).read_bytes())
    except OSError as error:
        raise _unreadable(file, str(error.strerror)) from error


def _parsed(file: str, lines: Iterable[tuple[int, bytes]]) -> Iterator[KnownKey]:
    """The keys in the lines. A line without a valid key is skipped."""
    for line, text in lines:
        fields = text.split()
        marker = fields.pop(0).decode("ascii", "replace") if fields[0].startswith(b"@") else ""
        blob = _blob(fields)
        if blob is not None and marker in ("", REVOKED, AUTHORITY):
            yield KnownKey(file, line, marker, fields[1].decode("utf-8", "replace"), blob)


def _blob(fields: list[bytes]) -> bytes | None:
    """The key of a known_hosts line; `None` when it is cut off, or not of the type that the line names."""
    if len(fields) < 3:
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    kind = fields[1]
    return blob if blob.startswith(len(kind).to_bytes(4, "big") + kind) else None


def _unreadable(file: str, why: str) -> LinkError:
    return LinkError("known_hosts_unreadable", f"{file} can't be read: {why}.", f"Look at it: ssh-keygen -lf {file}")
