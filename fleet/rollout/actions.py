"""What a decision asks of the engine: begin visits, emit an event, wait for a moment, or finish.

Also what all decisions share: which visits may begin now, and how a host whose last visit is unresolved is looked at.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any

from fleet.events import Event, EventType, Note, Result
from fleet.onhost.protocol import Ask
from fleet.rollout.host_map import Moment, Question
from fleet.rollout.host_status import HostStatus
from fleet.rollout.rollout_status import RolloutStatus


@dataclass(frozen=True, slots=True)
class BeginVisit:
    """Begin a visit. `TaskBuilder` makes the full task from it and the host's status."""

    host: str
    ask: Ask
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Emit:
    """Emit an event of the rollout itself. Folding it into the status is what moves the rollout on.

    `note` is for an event of the type `NOTE`; its value becomes the event's reason.
    """

    type: EventType
    batch: int | None = None
    reason: str | None = None
    message: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    note: Note | None = None

    def event(self, at: datetime, rollout: str) -> Event:
        """The event, as of this moment."""
        reason = self.note.value if self.note else self.reason
        return Event(at, rollout, self.type, batch=self.batch, reason=reason, message=self.message, data=self.data)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before this moment, unless a visit ends."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of the run. `message` says in one line how it ended and which command comes next."""

    result: Result
    exit_code: int
    message: str


Action = BeginVisit | Emit | Wait | Finish
Decide = Callable[[RolloutStatus, datetime], tuple[Action, ...]]


def visits_to(
    pending: Sequence[Question], ask: Ask, status: RolloutStatus, now: datetime, most: int
) -> tuple[Action, ...]:
    """At most `most` visits to idle hosts: to those for which the first question is answered with yes, then the next one's.

    A host whose last visit of this kind is unresolved is looked at instead, and comes last.
    """
    ready = (host for each in pending for host in status.host_map.where(_ready(each, ask)))
    visits = tuple(BeginVisit(host.name, ask, host.batch) for host in islice(ready, max(most, 0)))
    looks = (action for each in pending for action in _looks_at(_lost(each, ask), status, now, most - len(visits)))
    return (*visits, *looks)


def looks_at_unresolved(status: RolloutStatus, now: datetime, most: int) -> tuple[Action, ...]:
    """At most `most` looks at idle hosts with an unresolved visit whose pause is over; else a wait for the first pause."""
    return _looks_at(_next_look, status, now, most)


def _looks_at(moment: Moment, status: RolloutStatus, now: datetime, most: int) -> tuple[Action, ...]:
    first = status.host_map.earliest(moment)
    if first is None or first > now:
        return () if first is None else (Wait(first),)
    due = islice(status.host_map.due(moment, now), max(most, 0))
    return tuple(BeginVisit(host.name, Ask.LOOK, host.batch) for host in due)


def _next_look(host: HostStatus) -> datetime | None:
    return host.unresolved.next_at if host.unresolved is not None and host.running is None else None


@cache
def _ready(pending: Question, ask: Ask) -> Question:
    def is_ready(host: HostStatus) -> bool:
        is_resolved = host.unresolved is None or host.unresolved.ask is not ask
        return host.running is None and is_resolved and pending(host)

    return is_ready


@cache
def _lost(pending: Question, ask: Ask) -> Moment:
    def look_at(host: HostStatus) -> datetime | None:
        is_lost = host.unresolved is not None and host.unresolved.ask is ask
        return _next_look(host) if is_lost and pending(host) else None

    return look_at


def within_parallel(actions: tuple[Action, ...], status: RolloutStatus, parallel: int) -> tuple[Action, ...]:
    """The actions, with at most one visit per host and no more visits than leave `parallel` running in all."""
    free = parallel - status.busy
    kept: list[Action] = []
    seen: set[str] = set()
    for action in actions:
        if isinstance(action, BeginVisit):
            if len(seen) >= free or action.host in seen:
                continue
            seen.add(action.host)
        kept.append(action)
    return tuple(kept)
