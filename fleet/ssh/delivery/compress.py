"""The release, compressed once per run for all hosts.

An nginx binary shrinks to less than half, and all uploads of a run share the operator's uplink. gzip, because every
Python can unpack it; xz would save a tenth more. A sample says how hard to try: level 9 takes three times as long as level
6, for half a percent, and what does not shrink is put into the gzip file as it is. The last release stays in memory;
nothing is cached on disk.
"""

import gzip
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

from fleet.ssh.link_errors import HostRefused

SAMPLES, SAMPLE_BYTES = 16, 24 << 10
SMALL_GAIN, GAIN = 0.1, 0.3
AS_IT_IS, FAST, WELL = 0, 1, 6
"""Levels of gzip."""
_ONE_AT_A_TIME = Lock()


@dataclass(frozen=True, slots=True)
class CompressedRelease:
    """A gzip file in memory, and the size of what is in it."""

    data: bytes
    unpacked_bytes: int


def compressed_release(release: Path) -> CompressedRelease:
    """The file, compressed. The same file is compressed once. Raises `HostRefused` when it can't be read."""
    try:
        seen = release.stat()
        with _ONE_AT_A_TIME:  # other visits wait, and then find it in the cache
            return _compressed(release, (seen.st_mtime_ns, seen.st_size, seen.st_ino))
    except OSError as error:
        raise HostRefused(
            "release_unreadable", f"{release} can't be read: {error.strerror}.", f"Look at it: ls -l {release}"
        ) from error


@lru_cache(maxsize=1)
def _compressed(release: Path, state: tuple[int, int, int]) -> CompressedRelease:
    """`state` is part of the cache key, so that a changed file is compressed again."""
    content = release.read_bytes()
    return CompressedRelease(gzip.compress(content, level_for(content), mtime=0), len(content))


def level_for(content: bytes) -> int:
    """The level of gzip that pays, from samples all over the content."""
    step = max(len(content) // SAMPLES, 1)
    sample = b"".join(content[start : start + SAMPLE_BYTES] for start in range(0, len(content), step))
    gain = 1 - len(zlib.compress(sample, FAST)) / max(len(sample), 1)
    return AS_IT_IS if gain < SMALL_GAIN else FAST if gain < GAIN else WELL
