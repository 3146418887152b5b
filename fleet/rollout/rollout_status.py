"""Where a rollout stands: a fold over its events, and nothing else.

`fold` is pure and total. The live view, the exit code, the log file and the journal all come from the same events, so
they can't disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from functools import partial

from fleet.events import Event, EventType, Note, Result
from fleet.rollout.host_map import HostMap
from fleet.rollout.host_status import (
    FaultKind,
    HostStatus,
    KnownReason,
    Progress,
    Verdict,
    at_fault,
    has_fault,
    is_running,
    to_look_at_once,
)
from fleet.rollout.transitions.host_transitions import after
from fleet.typed_command import UNTYPED, TypedCommand


class Stage(Enum):
    """What the rollout does now."""

    STARTING = "starting"
    STAGING = "staging"
    STAGED = "staged"
    UPGRADING = "upgrading"
    BAKING = "baking"
    JUDGED = "judged"
    COMMITTING = "committing"
    ROLLING_BACK = "rolling back"
    CLOSING = "closing"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """The whole rollout. `hosts` is kept as a `HostMap`, `batches` holds host names; `batch` is the number (from 1) of the
    one that is open. `going_back`: the run takes its hosts back; this stays true after its end. `typed` is the command that
    began the run.
    """

    rollout: str = ""
    hosts: Mapping[str, HostStatus] = field(default_factory=dict)
    batches: tuple[tuple[str, ...], ...] = ()
    stage: Stage = Stage.STARTING
    going_back: bool = False
    epoch: int = 0
    batch: int = 0
    started_at: datetime | None = None
    closed_at: datetime | None = None
    committed_batch: int = 0
    committing_at: datetime | None = None
    gate: Verdict | None = None
    taken_over: str | None = None
    interrupted: bool = False
    bug: bool = False
    journal_lost: str | None = None
    result: Result | None = None
    exit_code: int | None = None
    message: str = ""
    typed: TypedCommand = UNTYPED

    def __post_init__(self) -> None:
        if not isinstance(self.hosts, HostMap):
            object.__setattr__(self, "hosts", HostMap(self.hosts.values()))

    @property
    def host_map(self) -> HostMap:
        """The hosts, to ask about all of them at once."""
        assert isinstance(self.hosts, HostMap)
        return self.hosts

    def of_batch(self, number: int) -> tuple[HostStatus, ...]:
        """The hosts of a batch, counted from 1."""
        return tuple(self.hosts[name] for name in self.batches[number - 1])

    @property
    def stopping(self) -> bool:
        """Whether nothing new may begin, whatever the policy says."""
        return self.interrupted or self.bug or self.taken_over is not None or self.journal_lost is not None

    @property
    def all(self) -> tuple[HostStatus, ...]:
        """The hosts in the plan's order."""
        return self.host_map.all()

    @property
    def busy(self) -> int:
        """How many visits run."""
        return self.host_map.count(is_running)

    @property
    def faults(self) -> int:
        """How much of the budget is spent."""
        return self.host_map.count(has_fault)

    @property
    def counts(self) -> dict[str, int]:
        """Every host once, under its result."""
        return {"hosts": len(self.hosts), **{word: self.host_map.count(is_it) for word, is_it in COUNTED.items()}}


COUNTED_AS = {
    Progress.WAITING: "not_begun",
    Progress.STAGED: "not_begun",
    Progress.BEGUN: "begun",
    Progress.UPGRADED: "done",
    Progress.COMMITTED: "done",
    Progress.ROLLED_BACK: "rolled_back",
    Progress.RAN_ALREADY: "done",
    Progress.LEFT_ALONE: "left_alone",
}


def _is_counted_as(word: str, host: HostStatus) -> bool:
    return word == (COUNTED_AS[host.progress] if host.fault is None else host.fault.kind.value)


COUNTED = {
    word: partial(_is_counted_as, word)
    for word in (
        *("done", "failed", "refused", "unreachable", "unverified"),
        *("rolled_back", "begun", "not_begun", "left_alone"),
    )
}


def fold(status: RolloutStatus, event: Event) -> RolloutStatus:
    """The status after one more event."""
    if event.host is not None:
        return _fold_host(status, event)
    match event.type:
        case EventType.ROLLOUT_STARTED:
            return _started(event)
        case EventType.STAGE_STARTED:
            return replace(status, stage=Stage.STAGING)
        case EventType.STAGE_ENDED:
            return replace(status, stage=Stage.STAGED, epoch=int(event.data.get("epoch", status.epoch)))
        case EventType.BATCH_OPENED:
            return replace(status, stage=Stage.UPGRADING, batch=event.batch or 0, gate=None)
        case EventType.BATCH_CLOSED:
            return replace(_not_judged(status), stage=Stage.BAKING, closed_at=event.at)
        case EventType.GATE_JUDGED:
            return replace(_judged(status), stage=Stage.JUDGED, gate=Verdict(event.data["verdict"]))
        case EventType.COMMIT_STARTED:
            batch = event.batch or len(status.batches)
            return replace(status, stage=Stage.COMMITTING, committed_batch=batch, committing_at=event.at)
        case EventType.ROLLBACK_STARTED:
            return replace(status, stage=Stage.ROLLING_BACK, going_back=True)
        case EventType.NOTE:
            return _noted(status, event)
        case EventType.ROLLOUT_ENDED:
            return _ended(status, event)
        case _:
            return status


def _noted(status: RolloutStatus, event: Event) -> RolloutStatus:
    match event.note:
        case Note.INTERRUPTED:
            return replace(status, interrupted=True)
        case Note.FLEET_BUG:
            return replace(status, bug=True)
        case Note.JOURNAL_LOST:
            return replace(status, journal_lost=str(event.data.get("why", event.message)))
        case Note.LOCK_TAKEN_OVER:
            return replace(status, taken_over=status.taken_over or event.message)
        case Note.LAST_LOOK:
            return _closing(status, event.at)
        case Note.LOCK_WAIT:
            return replace(status, hosts=status.host_map.changed(_in_use, _not_asked))
        case Note.LINKS_CUT | None:
            return status


def _in_use(host: HostStatus) -> bool:
    return host.in_use


def _not_asked(host: HostStatus) -> HostStatus:
    return HostStatus(host.name, host.batch, passed_gate=host.passed_gate)


def _closing(status: RolloutStatus, at: datetime) -> RolloutStatus:
    """Every host that was changed and gave no answer must be looked at once more."""
    hosts = status.host_map.changed(is_lost, lambda host: to_look_at_once(host, at))
    return replace(status, stage=Stage.CLOSING, hosts=hosts)


def is_lost(host: HostStatus) -> bool:
    """Whether the host was changed and its last visit got no answer."""
    return host.begun and host.last.unanswered


def _started(event: Event) -> RolloutStatus:
    """A run begins with a fresh status."""
    batches = tuple(tuple(batch) for batch in event.data["batches"])
    hosts = HostMap(HostStatus(name, number) for number, batch in enumerate(batches, 1) for name in batch)
    typed = TypedCommand.from_plain(event.data.get("command_line", {}))
    return RolloutStatus(rollout=event.rollout, hosts=hosts, batches=batches, started_at=event.at, typed=typed)


def _ended(status: RolloutStatus, event: Event) -> RolloutStatus:
    result, code = Result(event.data["result"]), int(event.data["exit_code"])
    return replace(status, stage=Stage.ENDED, result=result, exit_code=code, message=event.message)


def _not_judged(status: RolloutStatus) -> RolloutStatus:
    return replace(status, hosts=status.host_map.changed(_was_baked, lambda host: replace(host, bake=None)))


def _was_baked(host: HostStatus) -> bool:
    return host.bake is not None


def _judged(status: RolloutStatus) -> RolloutStatus:
    """A host that could not be asked at the gate counts as unreachable from now on."""
    hosts = status.host_map.changed(_gave_no_answer, lambda host: at_fault(host, FaultKind.UNREACHABLE))
    return replace(status, hosts=hosts)


def _gave_no_answer(host: HostStatus) -> bool:
    return host.bake is not None and host.bake.verdict is Verdict.ERROR


def _fold_host(status: RolloutStatus, event: Event) -> RolloutStatus:
    host = status.hosts.get(event.host or "")
    if host is None:
        return status
    changed = after(host, event, status.rollout)
    taken = status.taken_over
    if event.type is EventType.VISIT_ENDED and changed.last.known_reason is KnownReason.TAKEN_OVER:
        taken = taken or f"{host.name}: {event.message}"
    return replace(status, hosts=status.host_map.having(changed), taken_over=taken)
