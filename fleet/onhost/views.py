"""What `status` and preflight show of a host beside its phase: masters, unit, package, drain, and what was rehearsed."""

from typing import NamedTuple, Optional, Tuple

SILENT_S = 300.0


class MasterView(NamedTuple):
    """A master as `status` shows it."""

    pid: int
    sha256: Optional[str]
    version: Optional[str]
    is_old: bool
    workers: int
    draining: int


class RehearsalSummary(NamedTuple):
    """What the rehearsal of an upgrade showed on this host, and what it cost (docs/rehearsal.md).

    `workers`, `listeners`, `questions` are the new release's; `lines` are log lines at `crit` and above that the running one
    did not write. `alike` is how many questions the running release answered in the same way; 0 if `alone`: the running release
    was not rehearsed. `notes` are sentences. `why_not` says why there was no rehearsal. `took_s` is wall time; `cpu_s` and
    `memory_kb` are of all its processes and of the private copy; `disk_kb` is what was written to disk.
    """

    workers: int = 0
    listeners: int = 0
    questions: int = 0
    alike: int = 0
    lines: int = 0
    alone: bool = False
    notes: Tuple[str, ...] = ()
    why_not: Optional[str] = None
    took_s: float = 0.0
    cpu_s: float = 0.0
    memory_kb: int = 0
    disk_kb: int = 0


class UnitView(NamedTuple):
    """The systemd unit that owns nginx, as systemd shows it.

    `main_pid` is 0 where systemd knows no main process. `follows`: that process is one of the living masters. `guard` is the
    path of fleet's drop-in that forbids to stop and to restart the unit, `None` where there is none.
    """

    name: str
    main_pid: int = 0
    active: str = ""
    follows: bool = True
    guard: Optional[str] = None


class PackageView(NamedTuple):
    """The package that owns the file at the binary's path, and its installed version.

    `is_its_file`: the file at the path is the one that the package brought; `None` where the package has no checksum for it.
    `on_hold`: the package manager leaves the package at its version.
    """

    name: str
    version: str
    is_its_file: Optional[bool] = None
    on_hold: bool = False


class WatcherView(NamedTuple):
    """The process that keeps the lease or the retirement. `seen_at` is when it last said so, UTC in ISO 8601; empty: never."""

    is_alive: bool
    seen_at: str = ""


class DrainView(NamedTuple):
    """The old workers that finish their connections (docs/operations.md). Spans are in seconds.

    `connections` are those of clients, over TCP. `ages` are pairs: how long the workers have been draining, and how many
    connections they have left; the kernel keeps no time at which a connection was made, but each of these is at least that
    old. `since_s` is the longest of them; `None` where nothing shows since when any of them drains. `silent` connections
    have carried no data for `SILENT_S`. `shutdown_timeout_s` is `worker_shutdown_timeout` of the configuration that the
    draining workers have in memory, `None` where it has none, or where `changed` says which of its files has been changed
    since. `cut_in_s` is when that closes what is left.
    """

    workers: int
    connections: int
    since_s: Optional[float] = None
    ages: Tuple[Tuple[float, int], ...] = ()
    shutdown_timeout_s: Optional[float] = None
    cut_in_s: Optional[float] = None
    silent: int = 0
    changed: str = ""


class RetirementView(NamedTuple):
    """A commit that the host finishes by itself once the old workers are gone. `left_s` are the seconds that it may wait."""

    left_s: float
    cut: bool = False
