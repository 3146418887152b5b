"""The pieces of a log that are worth reading: its end, and the moments at which nginx started, wherever they are by now.

nginx complains at its start, which may be many rotations ago. The file of that time is found by the times of the files,
and the place in it by the time stamps of its lines. Everything is bounded: logs can be larger than memory.
"""

import datetime
import time
from typing import Dict, List, NamedTuple, Optional, Sequence

from fleet.onhost.nginx.error_log import LINE, STAMPED
from fleet.onhost.nginx.log_files import LogFile
from fleet.onhost.system.machine import Machine

MOST_LATE_BYTES = 4 << 20
MOST_START_BYTES = 4 << 20
MOST_UNPACKED_BYTES = 128 << 20
MOST_LATE_FILES = 3
SEARCHED_BYTES = 64 << 10
PEEKED_BYTES = 8 << 10
# nginx stamps a line with the time of its last look at the clock. A worker's first lines have the time at which the
# master began to read its configuration, which may have taken long.
LOADING_S = 120.0
QUARTER_S = 900
FARTHEST_S = 15 * 3600
EPOCH = datetime.datetime(1970, 1, 1)
STAMP = "%Y/%m/%d %H:%M:%S"


class Clock:
    """Times as the running master writes them. Its time zone need not be this process's: `TZ` may be set for one of them.

    A log was last written at the time of its last line, so the two show the difference to UTC.
    """

    def __init__(self, machine: Machine, current: LogFile) -> None:
        end = machine.read_from(current.path, max(0, current.size_bytes - PEEKED_BYTES), PEEKED_BYTES)
        self._offset_s = _offset_s(end, current.written_s)

    def stamp(self, at_s: float) -> str:
        """The time stamp of a line written then."""
        if self._offset_s is None:
            return time.strftime(STAMP, time.localtime(at_s))
        return time.strftime(STAMP, time.gmtime(at_s + self._offset_s))


def _offset_s(end: bytes, written_s: float) -> Optional[int]:
    """How much the clock of the writer differs from UTC; `None` if it is the one here, or can't be known."""
    stamps = STAMPED.findall(end)
    try:
        last_s = (datetime.datetime.strptime(stamps[-1].decode(), STAMP) - EPOCH).total_seconds()
    except (IndexError, ValueError):
        return None
    rounded_s = round((last_s - written_s) / QUARTER_S) * QUARTER_S
    here_s = time.localtime(written_s).tm_gmtoff
    return None if rounded_s == here_s or abs(rounded_s) > FARTHEST_S else rounded_s


class Piece(NamedTuple):
    """Some lines of a log in their order; `first` and `last` are the first and the last one with a time stamp."""

    size_bytes: int
    lines: List[str]
    first: str
    last: str


class Content(NamedTuple):
    """A log file, or of a packed one the part `held` that was unpacked."""

    file: LogFile
    size_bytes: int
    held: Optional[bytes] = None

    def read(self, machine: Machine, offset: int, most_bytes: int) -> bytes:
        if self.held is not None:
            return self.held[offset : offset + most_bytes]
        return machine.read_from(self.file.path, offset, most_bytes)


class Range(NamedTuple):
    """A part of a content, in bytes."""

    content: Content
    begin: int
    end: int


def pieces(machine: Machine, files: Sequence[LogFile], clock: Clock, moments: Sequence[float]) -> List[Piece]:
    """The end of the log, and what was written from each moment on; no line twice. `files`: the newest first.

    Moments are in seconds since 1970. Raises OSError.
    """
    contents = {file.path: Content(file, file.size_bytes) for file in files if not file.packed}
    wanted = _late([contents[file.path] for file in files if not file.packed])
    for at_s in moments:
        covering = [file for file in files if file.written_s >= at_s - 1.0]
        if covering:
            wanted.append(_from(machine, _content(machine, covering[-1], clock, at_s, contents), clock, at_s))
    return [_piece(machine, part) for part in _joined(wanted)]


def _late(contents: Sequence[Content]) -> List[Range]:
    """The end of the newest file, and of those before it while there are bytes left to read."""
    found, left = [], MOST_LATE_BYTES
    for content in contents[:MOST_LATE_FILES]:
        taken = min(left, content.size_bytes)
        found.append(Range(content, content.size_bytes - taken, content.size_bytes))
        left -= taken
    return found


def _content(machine: Machine, file: LogFile, clock: Clock, at_s: float, known: Dict[str, Content]) -> Content:
    """The content of the file around that moment."""
    if not file.packed:
        return known[file.path]
    until = _last_stamp(known[file.path].held or b"") if file.path in known else ""
    if until < clock.stamp(at_s):
        held = _unpacked(machine, file, max(until, clock.stamp(at_s - LOADING_S)))
        known[file.path] = Content(file, len(held), held)
    return known[file.path]


def _last_stamp(content: bytes) -> str:
    stamps = STAMPED.findall(content[-PEEKED_BYTES:])
    return stamps[-1].decode() if stamps else ""


def _unpacked(machine: Machine, file: LogFile, stamp: str) -> bytes:
    """What the packed file holds from about that time on, at most `MOST_START_BYTES` and a block."""
    held, read_bytes = b"", 0
    for block in machine.unpacked_blocks(file.path):
        read_bytes += len(block)
        held = block if "" < _last_stamp(block) < stamp else held + block
        if len(held) >= MOST_START_BYTES or read_bytes >= MOST_UNPACKED_BYTES:
            break
    return held


def _from(machine: Machine, content: Content, clock: Clock, at_s: float) -> Range:
    """The part of the content that begins shortly before the first line of that moment: lines are in the order of time."""
    stamp = clock.stamp(at_s - LOADING_S)
    low, high = 0, content.size_bytes
    while high - low > SEARCHED_BYTES:
        middle = (low + high) // 2
        found = STAMPED.search(content.read(machine, middle, PEEKED_BYTES))
        if found is None or found.group(1).decode() >= stamp:
            high = middle
        else:
            low = middle
    return Range(content, low, min(content.size_bytes, low + MOST_START_BYTES))


def _joined(parts: Sequence[Range]) -> List[Range]:
    """The parts in the order of their lines; parts that overlap are one."""
    joined: List[Range] = []
    for part in sorted(parts, key=lambda one: (one.content.file.written_s, id(one.content), one.begin)):
        last = joined[-1] if joined else None
        if last is not None and last.content is part.content and part.begin <= last.end:
            joined[-1] = last._replace(end=max(last.end, part.end))
        else:
            joined.append(part)
    return [part for part in joined if part.end > part.begin]


def _piece(machine: Machine, part: Range) -> Piece:
    content = part.content.read(machine, part.begin, part.end - part.begin)
    lines = content.decode("utf-8", "replace").split("\n")
    first = next((line for line in lines if LINE.match(line)), "")
    last = next((line for line in reversed(lines) if LINE.match(line)), "")
    return Piece(len(content), lines, first, last)
