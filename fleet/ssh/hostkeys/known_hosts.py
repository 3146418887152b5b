"""The keys that known_hosts files hold for a name, read as OpenSSH reads them.

paramiko's reader fails on a line with a marker, ignores patterns and keeps one key per type. `ssh-keygen -F` handles
hashed names, patterns and markers; without OpenSSH on this machine `known_hosts_file` reads the file.
"""

import base64
import binascii
import hashlib
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fleet.ssh.hostkeys.known_hosts_file import Line, lines_about, lines_of
from fleet.ssh.link_errors import LinkError

ASK_TIMEOUT_S = 10.0
REVOKED = "@revoked"
AUTHORITY = "@cert-authority"


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


class Reading:
    """The same by fleet's own reader, which reads each file once: for many names under a lock."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[Line, ...]] = {}

    def keys_of(self, files: tuple[str, ...], name: str) -> tuple[KnownKey, ...]:
        return tuple(key for file in files for key in _parsed(file, lines_about(self._lines_of(file), name)))

    def _lines_of(self, file: str) -> tuple[Line, ...]:
        if file not in self._lines:
            self._lines[file] = _lines_in(file) if Path(file).exists() else ()
        return self._lines[file]


def fingerprint(blob: bytes) -> str:
    """As `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


@lru_cache(maxsize=8192)
def _find(file: str, name: str, state: tuple[int, int, int]) -> tuple[KnownKey, ...]:
    """The keys in `file` for `name`. `state` is part of the cache key, so that a changed file is read again."""
    try:
        asked = subprocess.run(
            ["ssh-keygen", "-F", name, "-f", file], capture_output=True, timeout=ASK_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        return tuple(_parsed(file, lines_about(_lines_in(file), name)))
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unreadable(file, f"ssh-keygen failed: {error}") from error
    if asked.returncode not in (0, 1):
        raise _unreadable(file, asked.stderr.decode("utf-8", "replace").strip())
    return tuple(_parsed(file, _told_by_ssh_keygen(asked.stdout.decode("utf-8", "replace"))))


def _lines_in(file: str) -> tuple[Line, ...]:
    try:
        return lines_of(Path(file).read_text("utf-8", "replace"))
    except OSError as error:
        raise _unreadable(file, str(error.strerror)) from error


def _told_by_ssh_keygen(output: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line; ssh-keygen prints the number in a comment before the line."""
    line = 0
    for text in output.splitlines():
        if text.startswith("# Host "):
            number = text.rpartition(": line ")[2].split()
            line = int(number[0]) if number and number[0].isdigit() else 0
        else:
            yield line, text


def _parsed(file: str, lines: Iterable[tuple[int, str]]) -> Iterator[KnownKey]:
    """The keys in the lines. A line without a valid key is skipped."""
    for line, text in lines:
        fields = text.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        blob = _blob(fields)
        if blob is not None and marker in ("", REVOKED, AUTHORITY):
            yield KnownKey(file, line, marker, fields[1], blob)


def _blob(fields: list[str]) -> bytes | None:
    """The key of a known_hosts line; `None` when it is cut off, or not of the type that the line names."""
    if len(fields) < 3:
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    kind = fields[1].encode("utf-8", "replace")
    return blob if blob.startswith(len(kind).to_bytes(4, "big") + kind) else None


def _unreadable(file: str, why: str) -> LinkError:
    return LinkError("known_hosts_unreadable", f"{file} can't be read: {why}.", f"Look at it: ssh-keygen -lf {file}")
