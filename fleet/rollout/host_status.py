"""Where one host stands in a rollout.

How far the host got (`Progress`) and what is wrong with it (`Fault`) are two answers: a host that failed and was then
rolled back is both, and the budget must still count it. A visit that ended without an answer may have done its work, so
it stays an `UnresolvedVisit` until a look at the host shows what happened.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from functools import cache

from fleet.onhost.protocol import Ask, Finding, Outcome, Phase, Report, State, Step

AT_REST_AFTER = timedelta(seconds=6)
"""A step script that lost its controller begins no step after 5 s, so from then on the host is at rest."""
GIVE_UP_AFTER = timedelta(seconds=15)
"""How long fleet keeps asking a host that does not answer."""
MAX_TRIES = 3
"""How many times fleet asks one host for a commit or rollback. Before each new try a look shows that it is still needed."""
RESTING = frozenset({Phase.OLD, Phase.TRIAL, Phase.NEW, Phase.RETIRING})
"""Where a host needs no person. RETIRING ends by itself, as NEW."""
ARRIVED = frozenset({Phase.TRIAL, Phase.NEW, Phase.RETIRING})


class KnownReason(Enum):
    """The reasons of a visit that decide how the rollout continues. All other reasons are only shown to people."""

    TAKEN_OVER = "taken_over"
    RUNS_RELEASE = "runs_it"
    BUSY = "busy"
    CLAIMED = "claimed"
    UPGRADE_IN_PROGRESS = "upgrade_in_progress"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    FOREIGN = "foreign"
    NOTHING_TO_UNDO = "nothing_to_undo"
    OTHER_ROLLOUT = "other_rollout"
    NOT_BEGUN = "not_begun"

    @classmethod
    def of(cls, reason: str | None) -> "KnownReason | None":
        """The member for this reason, or `None` where the reason decides nothing."""
        return _KNOWN.get(reason or "")


_KNOWN = {each.value: each for each in KnownReason}
IN_USE = frozenset({KnownReason.BUSY, KnownReason.CLAIMED, KnownReason.UPGRADE_IN_PROGRESS})
"""Another run, or an unfinished rollout, has the host."""
TURNED_BACK = frozenset({KnownReason.INTERRUPTED, KnownReason.STOPPED})
"""The visit ended early because the controller stopped it; the host did nothing wrong."""
NOT_TO_UNDO = frozenset({KnownReason.FOREIGN, KnownReason.NOTHING_TO_UNDO, KnownReason.OTHER_ROLLOUT})
"""The rollback has nothing to do on this host."""


class Progress(Enum):
    """How far a host got in this rollout."""

    WAITING = "waiting"
    STAGED = "staged"
    BEGUN = "begun"
    UPGRADED = "upgraded"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    RAN_ALREADY = "ran it already"
    LEFT_ALONE = "left alone"


class FaultKind(Enum):
    """What is wrong with a host. The kinds are counted separately, and each counts against the budget."""

    REFUSED = "refused"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    UNVERIFIED = "unverified"


class Verdict(Enum):
    """The answer of a look at a host during the bake, and of the gate between two batches, from best to worst."""

    PASSED = "passed"
    ERROR = "error"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a host for the rest of the rollout, in the words of the visit that found it.

    `gave_up_on` is the visit that fleet stopped repeating because the host gave no answer in time.
    """

    kind: FaultKind
    reason: str | None = None
    message: str = ""
    remedy: str = ""
    gave_up_on: Ask | None = None

    @property
    def known_reason(self) -> KnownReason | None:
        """The reason, where the rollout acts on it."""
        return KnownReason.of(self.reason)


@dataclass(frozen=True, slots=True)
class UnresolvedVisit:
    """A visit that may or may not have done its work. fleet looks at the host again at `next_at`."""

    ask: Ask
    lost_at: datetime
    next_at: datetime
    tries: int = 0


@dataclass(frozen=True, slots=True)
class RunningVisit:
    """The visit that runs now, and the step that it is in."""

    ask: Ask
    started_at: datetime
    step: Step | None = None


@dataclass(frozen=True, slots=True)
class LastVisit:
    """How the last visit ended. `ask` and `started_at` are `None` where another command made it."""

    ask: Ask | None = None
    started_at: datetime | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    message: str = ""
    remedy: str = ""

    @property
    def known_reason(self) -> KnownReason | None:
        """The reason, where the rollout acts on it."""
        return KnownReason.of(self.reason)

    @property
    def unanswered(self) -> bool:
        """Whether the host gave no answer."""
        return self.outcome in (Outcome.LINK_LOST, Outcome.UNREACHABLE)

    @property
    def turned_back(self) -> bool:
        """Whether the controller stopped the visit before its end."""
        return self.known_reason in TURNED_BACK


@dataclass(frozen=True, slots=True)
class PastVisits:
    """What all visits of this run add up to.

    `moving_s` is the time of the visits that move a host, in seconds. `left_at` is the phase in which the last upgrade
    or commit left the host. `renewed_at` is when the lease and the claim were last renewed.
    """

    counts: Mapping[Ask, int] = field(default_factory=dict)
    moving_s: float = 0.0
    left_at: Phase | None = None
    renewed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Bake:
    """The looks at a host during the bake of the open batch: the last verdict, and since when looks get no answer."""

    verdict: Verdict
    looked_at: datetime
    unanswered_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host. `report` is the latest that the host gave of itself, `first_report` the one before any change.

    `passed_gate` says that the host's batch had passed its gate before the rollout was interrupted.
    """

    name: str
    batch: int | None = None
    progress: Progress = Progress.WAITING
    fault: Fault | None = None
    running: RunningVisit | None = None
    last: LastVisit = field(default_factory=LastVisit)
    past: PastVisits = field(default_factory=PastVisits)
    unresolved: UnresolvedVisit | None = None
    bake: Bake | None = None
    report: Report | None = None
    first_report: Report | None = None
    passed_gate: bool = False
    findings: tuple[Finding, ...] = ()

    @property
    def doing(self) -> Ask | None:
        """What the visit that runs now was asked for."""
        return self.running.ask if self.running else None

    @property
    def phase(self) -> Phase | None:
        """The phase in the latest report, or `None` if the host never answered."""
        return self.report.phase if self.report else None

    @property
    def is_unasked(self) -> bool:
        """Whether neither this run nor a look before it has asked the host."""
        return not self.past.counts and self.last.outcome is None

    @property
    def begun(self) -> bool:
        """Whether this rollout may have changed the host."""
        unchanged = (Progress.WAITING, Progress.STAGED, Progress.LEFT_ALONE, Progress.RAN_ALREADY)
        return self.progress not in unchanged

    @property
    def held(self) -> bool:
        """Whether the old master still holds its sockets, so that a rollback costs two signals."""
        return self.report is not None and self.report.held

    @property
    def drain_pending(self) -> bool:
        """Whether a commit left the host held because connections to the old workers had not ended in time."""
        is_held = self.held and self.progress is Progress.UPGRADED and self.visited(Ask.COMMIT) > 0
        return is_held and not self.retires_itself and self.fault is None

    @property
    def retires_itself(self) -> bool:
        """Whether a commit left the retirement of the old master to the host, which does it once the old workers are gone."""
        return self.progress is Progress.UPGRADED and self.report is not None and self.report.retirement is not None

    @property
    def was_back_before(self) -> bool:
        """Whether the host had already been rolled back before this command asked it to."""
        first = self.first_report
        before = first.record if first and first.phase is Phase.OLD else None
        after = self.report.record if self.report else None
        if before is None or after is None or before.state is not State.ROLLED_BACK:
            return False
        return before.rollout == after.rollout

    def was_undone_by_operator(self, rollout: str) -> bool:
        """Whether an operator rolled the host back from this rollout.

        A host that the rollout itself rolled back, or whose lease expired, has a `why` in its record and is tried again.
        """
        if self.report is None or rollout not in self.report.undone:
            return False
        record = self.report.record
        return record is None or record.rollout != rollout or not record.why

    def is_half_way_back(self, rollout: str) -> bool:
        """Whether a rollback of this rollout by an operator began here, and the rollout is still in force."""
        record = self.report.record if self.report else None
        in_force = record is not None and record.rollout == rollout and record.state is not State.ROLLED_BACK
        return in_force and self.was_undone_by_operator(rollout)

    @property
    def unchanged(self) -> bool:
        """Whether the host is known to run what it ran before this rollout."""
        is_back = self.progress is Progress.ROLLED_BACK or (self.phase is Phase.OLD and not self.needs_person)
        return not self.begun or is_back

    @property
    def in_use(self) -> bool:
        """Whether the host refused because another run, or an unfinished rollout, has it."""
        if self.fault is None or self.fault.kind is not FaultKind.REFUSED:
            return False
        return self.fault.known_reason in IN_USE

    @property
    def needs_person(self) -> bool:
        """Whether the host was changed and is not known to be at rest, or did not go back when it should.

        A host that another run has taken over is that run's to look after.
        """
        if not self.begun or self.last.known_reason is KnownReason.TAKEN_OVER:
            return False
        if self.last.unanswered or self.unresolved is not None or self.phase not in RESTING:
            return True
        if self.gave_up_on(Ask.ROLLBACK) and self.progress is not Progress.ROLLED_BACK:
            return True
        failed = self.last.outcome is not Outcome.DONE and not self.last.turned_back
        return self.last.ask is Ask.ROLLBACK and failed

    def visited(self, ask: Ask) -> int:
        """How many visits of this kind have begun."""
        return self.past.counts.get(ask, 0)

    def gave_up_on(self, ask: Ask) -> bool:
        """Whether fleet stopped repeating this visit."""
        return self.fault is not None and self.fault.gave_up_on is ask


def is_running(host: HostStatus) -> bool:
    """Whether a visit runs there."""
    return host.running is not None


def has_fault(host: HostStatus) -> bool:
    """Whether something is wrong with the host."""
    return host.fault is not None


def is_unresolved(host: HostStatus) -> bool:
    """Whether a visit there may or may not have done its work."""
    return host.unresolved is not None


@cache
def was_not_asked(ask: Ask) -> Callable[[HostStatus], bool]:
    """Whether no visit of this kind has begun on a host, as a question about it."""
    return lambda host: not host.visited(ask)


def at_fault(host: HostStatus, kind: FaultKind) -> HostStatus:
    """The host with a fault of this kind, in the words of its last visit. A fault that it has already stays as it is."""
    if host.fault is not None:
        return host
    last = host.last
    return replace(host, fault=Fault(kind, last.reason, last.message, last.remedy))


def explained(host: HostStatus, reason: str, message: str) -> HostStatus:
    """The host with the controller's own words for how its last visit ended. The remedy stays the visit's."""
    return replace(host, last=replace(host.last, reason=reason, message=message))


def to_look_at_once(host: HostStatus, at: datetime) -> HostStatus:
    """The host, due for one look now. fleet gives up on it if that look gets no answer."""
    return replace(host, unresolved=UnresolvedVisit(Ask.LOOK, at - GIVE_UP_AFTER, at))
