"""What a decision asks of the engine: begin visits, emit an event, wait for a moment, or finish.

Also what all decisions share: which visits may begin now, and how a host whose last visit is unresolved is looked at.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fleet.events import Event, EventType, Note, Result
from fleet.onhost.protocol import Ask
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


def visits_to(hosts: Iterable[HostStatus], ask: Ask, now: datetime) -> tuple[Action, ...]:
    """A visit to every idle host. A host whose last visit of this kind is unresolved is looked at instead, and comes last."""
    idle = [host for host in hosts if host.running is None]
    ready = [host for host in idle if host.unresolved is None or host.unresolved.ask is not ask]
    lost = [host for host in idle if host not in ready]
    return (*(BeginVisit(host.name, ask, host.batch) for host in ready), *looks_at_unresolved(lost, now))


def looks_at_unresolved(hosts: Iterable[HostStatus], now: datetime) -> tuple[Action, ...]:
    """A look at every idle host with an unresolved visit whose pause is over, and a wait for each whose pause is not."""
    lost = [(host, host.unresolved.next_at) for host in hosts if host.unresolved is not None and host.running is None]
    due = tuple(BeginVisit(host.name, Ask.LOOK, host.batch) for host, at in lost if at <= now)
    later = tuple(Wait(at) for _, at in lost if at > now)
    return due + later


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
