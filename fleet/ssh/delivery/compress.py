"""A release as it goes over the wire: compressed once per run, by this process, for all hosts.

nginx shrinks to less than half, and a fleet's uploads share the operator's uplink. gzip, because every Python unpacks
it; xz would save a tenth more. Nothing is cached on the disk: the newest release is kept in memory.
"""

import gzip
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

from fleet.ssh.link_errors import HostRefused

_ONE_AT_A_TIME = Lock()


@dataclass(frozen=True, slots=True)
class CompressedRelease:
    """A gzip file in memory, and the size of what is in it."""

    data: bytes
    unpacked_bytes: int


def compressed_release(release: Path) -> CompressedRelease:
    """The file, compressed; the same file is only compressed once. Raises `HostRefused` when it can't be read."""
    try:
        seen = release.stat()
        with _ONE_AT_A_TIME:  # the others find it done
            return _compressed(release, (seen.st_mtime_ns, seen.st_size, seen.st_ino))
    except OSError as error:
        raise HostRefused(
            "release_unreadable", f"{release} can't be read: {error.strerror}.", "Look at the file."
        ) from error


@lru_cache(maxsize=1)
def _compressed(release: Path, state: tuple[int, int, int]) -> CompressedRelease:
    """`state` only makes a changed file another question."""
    content = release.read_bytes()
    return CompressedRelease(gzip.compress(content, mtime=0), len(content))
