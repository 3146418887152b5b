"""What a rehearsal shows: each generation's workers, listeners, modules, answers and log lines.

The running release's generation is the baseline: only what the new one does differently speaks against the new release.
"""

from enum import Enum
from typing import NamedTuple, Optional, Tuple


class Defect(Enum):
    """Why a generation did not come up."""

    ENDED = "ended"
    """The process exited, or a signal ended it, before it had workers."""
    WORKERS_DIE = "workers die"
    """Workers end as soon as they start, again and again."""
    NO_WORKERS = "no workers"
    """A master lives, but its workers did not come, or did not stay, in time."""
    BLOCKED = "blocked"
    """A process waits in open() of a FIFO that has no writer."""
    IGNORED = "ignored"
    """The running release did not act on USR2."""


class Fault(NamedTuple):
    """Why a generation did not come up: `text` in words for a message, `path` the file that it waits for, `signal` the one
    that ended it.
    """

    defect: Defect
    text: str
    path: Optional[str] = None
    signal: Optional[int] = None


class Opened(NamedTuple):
    """An address that a generation listens on, as in `system.sockets.Listener`, and its number of sockets."""

    kind: str
    address: str
    sockets: int


class Answered(NamedTuple):
    """What a generation answered. `question` is a listener's address or a probe's URL;

    `answer` is the first line, or in words how it failed; `good` is false when nothing came back, or a probe failed.
    """

    question: str
    answer: str
    good: bool


class Generation(NamedTuple):
    """One generation in the rehearsal. `fault` is `None` when it came up; what follows it is empty otherwise.

    `lines` are its log lines at `crit` and above without `client:`, and lines that are not nginx's (the loader's).
    `environment` has its variables, by name. `user` is the user id of its workers, `error_log` the file that takes its error
    log, `pid_file` the file where it wrote its pid; both are `None` when there is none.
    """

    up_s: float
    fault: Optional[Fault] = None
    workers: int = 0
    listeners: Tuple[Opened, ...] = ()
    modules: Tuple[str, ...] = ()
    answers: Tuple[Answered, ...] = ()
    lines: Tuple[str, ...] = ()
    environment: Tuple[str, ...] = ()
    user: Optional[int] = None
    error_log: Optional[str] = None
    pid_file: Optional[str] = None
    daemon: bool = True


class Rehearsal(NamedTuple):
    """One rehearsal. `new` was started by `old` with USR2; if `alone`, by itself, because the old one was not or could not be.

    `why_not` says why there is no rehearsal; then both generations are `None`. `memory_kb` is that of nginx (PSS) and of all
    that was written in the copy; `disk_kb` is what was written to a disk in spite of it.
    """

    old: Optional[Generation] = None
    new: Optional[Generation] = None
    alone: bool = False
    why_not: Optional[str] = None
    notes: Tuple[str, ...] = ()
    wall_s: float = 0.0
    cpu_s: float = 0.0
    memory_kb: int = 0
    disk_kb: int = 0
