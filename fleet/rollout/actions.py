"""What a decision asks of the engine: visits to begin, something to say, a moment to wait for, or the end.

Also what all decisions share: which visits may begin now, and how a host in doubt is asked again.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fleet.events import EventType, Result
from fleet.onhost.protocol import Ask
from fleet.rollout.host_status import HostStatus
from fleet.rollout.rollout_status import RolloutStatus


@dataclass(frozen=True, slots=True)
class Visit:
    """Begin a visit. What it asks for in full is made from the host's status by `requests`."""

    host: str
    ask: Ask
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Announce:
    """An event of the rollout itself; folding it is what carries the rollout on."""

    type: EventType
    batch: int | None = None
    reason: str | None = None
    message: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before this moment, unless a visit ends."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of the rollout. `message` is the one line that says how it ended and what to do now."""

    result: Result
    exit_code: int
    message: str


Move = Visit | Announce | Wait | Finish
Decide = Callable[[RolloutStatus, datetime], tuple[Move, ...]]


def ask_all(hosts: Iterable[HostStatus], ask: Ask, now: datetime) -> tuple[Move, ...]:
    """A visit for every idle host, fresh ones first; one in doubt about this very ask is looked at instead."""
    idle = [host for host in hosts if host.doing is None]
    fresh = [host for host in idle if host.doubt is None or host.doubt.ask is not ask]
    doubted = [host for host in idle if host not in fresh]
    return (*(Visit(host.name, ask, host.batch) for host in fresh), *looks(doubted, now))


def looks(hosts: Iterable[HostStatus], now: datetime) -> tuple[Move, ...]:
    """A look at every idle host in doubt whose pause is over, and the wait for those whose pause is not."""
    doubted = [(host, host.doubt.next_at) for host in hosts if host.doubt is not None and host.doing is None]
    due = tuple(Visit(host.name, Ask.LOOK, host.batch) for host, at in doubted if at <= now)
    later = tuple(Wait(at) for _, at in doubted if at > now)
    return due + later


def bounded(moves: tuple[Move, ...], status: RolloutStatus, parallel: int) -> tuple[Move, ...]:
    """The moves, with no more visits than are free to begin: one per host, and `parallel` at a time."""
    free = parallel - status.busy
    kept: list[Move] = []
    seen: set[str] = set()
    for move in moves:
        if isinstance(move, Visit):
            if len(seen) >= free or move.host in seen:
                continue
            seen.add(move.host)
        kept.append(move)
    return tuple(kept)
