"""Where one host stands in a rollout: what its last visit said, and what that means by what was asked.

What a host's fault *is* is kept apart from how far the host *got*: a host that failed and was then taken back is both,
and the budget must not forget it. A visit whose end is not known leaves a `Doubt`, which only a look at the host ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum

from fleet.onhost.protocol import Ask, Finding, Outcome, Phase, Report, State, Step
from fleet.rollout.gate import Verdict

SETTLED = timedelta(seconds=6)
"""A step script that lost its controller begins no step after 5 s; later it is at rest."""
GIVE_UP = timedelta(seconds=15)
"""How long a host that doesn't answer is asked again."""
MOST_TRIES = 3
"""How often a commit or rollback is asked for, each time after a look has shown that the host is still to go."""
RESTING = frozenset({Phase.OLD, Phase.TRIAL, Phase.NEW, Phase.RETIRING})
ARRIVED = frozenset({Phase.TRIAL, Phase.NEW, Phase.RETIRING})

TAKEN_OVER = "taken_over"
RUNS_IT = "runs_it"
BUSY = "busy"
CLAIMED = "claimed"
IN_PROGRESS = "upgrade_in_progress"
ANOTHERS = frozenset({BUSY, CLAIMED, IN_PROGRESS})
TURNED_BACK = frozenset({"interrupted", "stopped"})
OTHER_ROLLOUT = "other_rollout"
LEFT_ALONE = frozenset({"foreign", "nothing_to_undo", OTHER_ROLLOUT})
"""Words by which a host says what concerns more than itself; the rest of its reasons are for people."""


class Course(Enum):
    """How far a host got in this rollout."""

    WAITING = "waiting"
    STAGED = "staged"
    BEGUN = "begun"
    UPGRADED = "upgraded"
    COMMITTED = "committed"
    BACK = "rolled back"
    ALREADY = "ran it already"
    LEFT_ALONE = "left alone"


class Fault(Enum):
    """What is wrong with a host, for the rest of the rollout. Counted apart; all of them count in the budget."""

    REFUSED = "refused"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    UNVERIFIED = "unverified"


@dataclass(frozen=True, slots=True)
class Doubt:
    """A visit whose end is not known: it may have happened. The host is asked again, from `next_at`."""

    ask: Ask
    lost_at: datetime
    next_at: datetime
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a host is at fault, in the words of the visit that found it out."""

    reason: str | None
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host. `doing`, `step` and `since` are the visit that runs; the fields from `asked` on are the last one's.

    `first` is what the host said before anything was changed; `left_at` is the phase where this rollout left it;
    `erring_since` is when the looks of a bake began to fail; `given_up` is what was asked when nobody answered in time;
    `proven`: its batch had passed its gate before the run was interrupted; `renewed_at` is when its lease last was.
    """

    name: str
    batch: int | None = None
    course: Course = Course.WAITING
    fault: Fault | None = None
    cause: Cause | None = None
    doubt: Doubt | None = None
    doing: Ask | None = None
    step: Step | None = None
    since: datetime | None = None
    asked: Ask | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    message: str = ""
    remedy: str = ""
    report: Report | None = None
    first: Report | None = None
    left_at: Phase | None = None
    verdict: Verdict | None = None
    looked_at: datetime | None = None
    erring_since: datetime | None = None
    given_up: Ask | None = None
    proven: bool = False
    renewed_at: datetime | None = None
    visits: Mapping[Ask, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    took_s: float = 0.0

    @property
    def phase(self) -> Phase | None:
        """The phase that the host last told, or `None` if it never answered."""
        return self.report.phase if self.report else None

    @property
    def begun(self) -> bool:
        """Whether this rollout may have changed the host."""
        return self.course not in (Course.WAITING, Course.STAGED, Course.LEFT_ALONE, Course.ALREADY)

    @property
    def held(self) -> bool:
        """Whether the old master still holds its sockets, so that going back costs two signals."""
        return self.report is not None and self.report.held

    @property
    def drain_pending(self) -> bool:
        """Whether a commit left the host held, because connections of the old workers had not ended in time."""
        return self.held and self.course is Course.UPGRADED and self.visited(Ask.COMMIT) > 0

    @property
    def was_back(self) -> bool:
        """Whether the host had gone back before anything was asked of it."""
        before = self.first.record if self.first and self.first.phase is Phase.OLD else None
        after = self.report.record if self.report else None
        if before is None or after is None or before.state is not State.ROLLED_BACK:
            return False
        return before.rollout == after.rollout

    @property
    def unchanged(self) -> bool:
        """Whether the host is known to run what it ran before this rollout."""
        return not self.begun or self.course is Course.BACK or (self.phase is Phase.OLD and not self.needs_person)

    @property
    def is_anothers(self) -> bool:
        """Whether the host was refused because somebody else is at work on it."""
        return self.fault is Fault.REFUSED and self.cause is not None and self.cause.reason in ANOTHERS

    @property
    def silent(self) -> bool:
        """Whether the last visit got no answer."""
        return self.outcome in (Outcome.LINK_LOST, Outcome.UNREACHABLE)

    @property
    def needs_person(self) -> bool:
        """Whether the host was changed and is not known to be at rest, or didn't go back when told to.

        One that was taken over is in somebody else's hands: that run looks after it.
        """
        if not self.begun or self.reason == TAKEN_OVER:
            return False
        if self.silent or self.doubt is not None or self.phase not in RESTING:
            return True
        if self.given_up is Ask.ROLLBACK and self.course is not Course.BACK:
            return True
        failed = self.outcome is not Outcome.DONE and self.reason not in TURNED_BACK
        return self.asked is Ask.ROLLBACK and failed

    def visited(self, ask: Ask) -> int:
        """How many visits of this kind have been begun."""
        return self.visits.get(ask, 0)


def with_cause(host: HostStatus) -> HostStatus:
    """The host, its fault told once and for all by the visit that brought it to light."""
    if host.fault is None or host.cause is not None:
        return host
    return replace(host, cause=Cause(host.reason, host.message, host.remedy))


def in_doubt_once(host: HostStatus, at: datetime) -> HostStatus:
    """The host, to be looked at now, and given up if it doesn't answer this time."""
    return replace(host, doubt=Doubt(Ask.LOOK, at - GIVE_UP, at))
