"""The baseline of a judgement: what the running release itself wrote to its log, as the host keeps it between visits."""

from enum import Enum
from typing import NamedTuple, Tuple

WINDOWS_S = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


class Writer(Enum):
    """Where a known line comes from."""

    RUNNING = "running"
    """The running master or a worker of it wrote it to its log."""
    REHEARSED = "rehearsed"
    """The running release's binary wrote it in a rehearsal."""
    BEFORE = "before"
    """The release that a rollback returns to wrote it when it ran before."""


class KnownLine(NamedTuple):
    """A kind of line (`nginx.log.kinds.kind_of`). `line` is the last one of it that was seen, with its time stamp.

    `most` is how many lines of it were written at most within each of `WINDOWS_S`.
    """

    kind: str
    line: str
    by: Writer
    most: Tuple[int, ...]


class Baseline(NamedTuple):
    """The kinds of line that do not count against a new release. `read` says how much of the log they were read from;
    it is empty when none of it was read.
    """

    lines: Tuple[KnownLine, ...] = ()
    read: str = ""


class Rehearsed(NamedTuple):
    """What the running release's binary wrote in the last rehearsal, when this master ran (pid and start time)."""

    master: Tuple[int, int]
    lines: Tuple[KnownLine, ...] = ()
