"""The types that the controller and the step script exchange.

Each message is one line of JSON (`wire.py`). The controller sends a `Request` and then beats (`BEAT`, `STOP`). The step
script answers with `Reply` lines and ends with the line `END_MARK`; a request without it is a lost link. After the end
mark the controller sends `OVER`, and may send the next request (`conversation.py`). Both ends import these types, so no
second copy can drift. `PROTOCOL` guards against an older bundle.
"""

from enum import Enum
from typing import Dict, NamedTuple, Optional, Tuple

from fleet.onhost.views import (
    DrainView,
    MasterView,
    PackageView,
    RehearsalSummary,
    RetirementView,
    UnitView,
    WatcherView,
)

PROTOCOL = 4
BEAT = "beat"
STOP = "stop"
OVER = "over"
UPLOAD = "upload "
"""The first word of the line that announces a release: an `Upload`, whose bytes follow the line."""
END_MARK = "fleet-end"


class Step(Enum):
    """One act on one host."""

    STAGE = "stage"
    SWAP = "swap"
    LAUNCH = "launch"
    VERIFY = "verify"
    DRAIN = "drain"
    RETIRE = "retire"
    REVIVE = "revive"
    DISMISS = "dismiss"
    RESTORE = "restore"
    SWEEP = "sweep"


FORWARD_STEPS = (Step.SWAP, Step.LAUNCH, Step.VERIFY, Step.DRAIN, Step.RETIRE)


class Phase(Enum):
    """What the host looks like now; `procedure.py` has the table."""

    OLD = "OLD"
    SWAPPED = "SWAPPED"
    OVERLAP = "OVERLAP"
    TRIAL = "TRIAL"
    RETIRING = "RETIRING"
    NEW = "NEW"
    DISMISSING = "DISMISSING"
    STRANDED = "STRANDED"
    DOWN = "DOWN"
    FOREIGN = "FOREIGN"


class Rest(Enum):
    """How far a goal goes: to the held old master, or to its retirement."""

    HELD = "held"
    FINAL = "final"


class Goal(NamedTuple):
    """The release that should serve, and how far to go."""

    target: str
    rest: Rest


class Ask(Enum):
    """The purpose of a visit. The request itself names the steps that the visit may take."""

    LOOK = "look"
    STAGE = "stage"
    UPGRADE = "upgrade"
    BAKE = "bake"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    LEASE = "lease"
    UNLOCK = "unlock"


BACK_STEPS = (
    Step.REVIVE,
    Step.DISMISS,
    Step.RESTORE,
    Step.SWAP,
    Step.LAUNCH,
    Step.VERIFY,
    Step.DRAIN,
    Step.RETIRE,
    Step.SWEEP,
)
MAY_DO: Dict[Ask, Tuple[Step, ...]] = {
    Ask.LOOK: (),
    Ask.STAGE: (Step.STAGE,),
    Ask.UPGRADE: (Step.SWAP, Step.LAUNCH, Step.VERIFY, Step.DRAIN, Step.RETIRE, Step.REVIVE, Step.SWEEP),
    Ask.BAKE: (),
    Ask.COMMIT: (Step.VERIFY, Step.DRAIN, Step.RETIRE, Step.REVIVE, Step.SWEEP),
    Ask.ROLLBACK: BACK_STEPS,
    Ask.LEASE: BACK_STEPS,
    Ask.UNLOCK: (),
}


class Outcome(Enum):
    """How a step or a visit ended. The last two are the controller's: a host can't report them of itself."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    LINK_LOST = "link_lost"
    UNREACHABLE = "unreachable"


class Layout(NamedTuple):
    """The paths of this instance; the host finds out those that are `None`."""

    binary: Optional[str] = None
    pid_file: Optional[str] = None
    config: Optional[str] = None
    prefix: Optional[str] = None
    state_dir: str = "/var/lib/fleet"


class Probe(NamedTuple):
    """One HTTP request that a healthy worker answers. `url` has a literal address, or a name that the host resolves, or a
    UNIX socket (`nginx/probe_target.py`). `proxy_protocol`: a PROXY protocol line comes first.
    """

    url: str
    status: int = 200
    contains: Optional[str] = None
    timeout_s: float = 5.0
    host_header: Optional[str] = None
    proxy_protocol: bool = False


class Options(NamedTuple):
    """The operator's options that the host needs.

    `rehearse`: preflight rehearses the upgrade (docs/rehearsal.md). `guard`: the unit of a held nginx is guarded against a
    stop and a restart (docs/systemd.md). `hold_package`: the package manager is told to leave nginx alone until the commit.
    `retire_within_s`: a commit leaves the retirement of the old master to the host, for this many seconds; 0: it waits itself.
    """

    settle_s: float = 2.0
    drain_timeout_s: float = 600.0
    dismiss_timeout_s: float = 10.0
    cut: bool = False
    allow: Tuple[str, ...] = ()
    probes: Tuple[Probe, ...] = ()
    rehearse: bool = True
    guard: bool = True
    hold_package: bool = False
    retire_within_s: float = 0.0


class Sender(NamedTuple):
    """The origin of a request: the journal of the run, the laptop, and the process there."""

    journal: str = ""
    controller: str = ""
    pid: int = 0


class Request(NamedTuple):
    """What one visit wants of one instance. `left_at` is the phase in which this rollout's last visit left the instance.

    `take_over` belongs to a rollback: it takes the host from any other run. `reopen` belongs to a resume: it also upgrades a
    host that was taken back from this very rollout, unless an operator took it back (a rollback that the rollout itself makes
    of a failed host gives `why`, an operator's gives none). `force` overrides another run's claim. `claim_s` and `lease_s`
    are the durations of claim and lease in seconds; 0 means none.
    """

    protocol: int
    ask: Ask
    rollout: str
    epoch: int
    operator: str
    goal: Optional[Goal]
    allowed: Tuple[Step, ...]
    layout: Layout = Layout()
    options: Options = Options()
    left_at: Optional[Phase] = None
    release_bytes: Optional[int] = None
    take_over: bool = False
    reopen: bool = False
    force: bool = False
    claim_s: float = 0.0
    lease_s: float = 0.0
    sender: Sender = Sender()
    why: str = ""


class Upload(NamedTuple):
    """A release that follows on the same stream: its SHA-256, how many bytes are sent, and the state folder they are for."""

    target: str
    size_bytes: int
    state_dir: str


class State(Enum):
    """How far a rollout's record on a host has come: what is *wanted*, never what the host looks like."""

    BEGUN = "begun"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"


class Record(NamedTuple):
    """What is wanted on this host, written before the first swap. Times are UTC in ISO 8601.

    `why` explains its state where the operator did not ask for it (an expired lease). `uncounted` are the probes that the
    release before failed just before `launch`: they do not count in this rollout. `committed_by` says who ended the old
    master, where fleet did not.
    """

    rollout: str
    epoch: int
    operator: str
    target: str
    before_process: str
    before_file: str
    at: str
    state: State = State.BEGUN
    poisoned: Optional[Tuple[int, int]] = None
    allow: Tuple[str, ...] = ()
    why: str = ""
    uncounted: Tuple[Probe, ...] = ()
    committed_by: str = ""


class Claim(NamedTuple):
    """The run at work on a host. `since` and `beat_at` are UTC in ISO 8601; `until_s` is CLOCK_BOOTTIME of that boot."""

    rollout: str
    journal: str
    operator: str
    controller: str
    pid: int
    since: str
    beat_at: str
    boot_id: str
    until_s: float


class Severity(Enum):
    """A refusal stops the visit; a warning does not."""

    REFUSAL = "refusal"
    WARNING = "warning"


class Finding(NamedTuple):
    """One fact found before or after an act: its word, the message, and the remedy."""

    reason: str
    severity: Severity
    message: str
    remedy: str
    overridable: bool = False


class Report(NamedTuple):
    """The host's own state at the end of a visit, whatever its outcome.

    `previous` is the rollout that was in force when that of `record` began. `claim` is the run at work here. `lease_left_s`
    is the rest of the lease in seconds, `None` without one. `unconfirmed`: the release of the record serves alone, by a
    master that no visit has verified (after a boot, or after the old master died). `undone` are the rollouts that may no
    longer begin here. `rehearsal` is that of this visit's preflight, `None` if there was none. `epoch_of` is the rollout
    whose request brought the epoch. `watcher` is that of the lease or of the retirement, `None` where neither is in force.
    `committed_by` says who ended the old master, where fleet did not (a package's script).
    """

    phase: Phase
    masters: Tuple[MasterView, ...]
    running_sha256: Optional[str]
    running_version: Optional[str]
    path: Optional[str]
    path_sha256: Optional[str]
    held: bool
    record: Optional[Record]
    epoch: int
    instance: Optional[str] = None
    machine_id: Optional[str] = None
    pid_file: Optional[str] = None
    drain_pending: bool = False
    undo: Optional[str] = None
    start_command: Optional[str] = None
    path_version: Optional[str] = None
    orphans: Tuple[int, ...] = ()
    previous: Optional[Record] = None
    claim: Optional[Claim] = None
    lease_left_s: Optional[float] = None
    unconfirmed: bool = False
    undone: Tuple[str, ...] = ()
    rehearsal: Optional[RehearsalSummary] = None
    epoch_of: str = ""
    unit: Optional[UnitView] = None
    package: Optional[PackageView] = None
    watcher: Optional[WatcherView] = None
    drain: Optional[DrainView] = None
    retirement: Optional[RetirementView] = None
    committed_by: str = ""


class ReplyType(Enum):
    """The kinds of line that the step script prints."""

    HELLO = "hello"
    STEP_STARTED = "step_started"
    STEP_ENDED = "step_ended"
    FINDING = "finding"
    OUTCOME = "outcome"


class Reply(NamedTuple):
    """One line from the host. A `STEP_ENDED` and an `OUTCOME` carry an outcome, an `OUTCOME` also the report."""

    type: ReplyType
    step: Optional[Step] = None
    outcome: Optional[Outcome] = None
    reason: Optional[str] = None
    message: str = ""
    remedy: str = ""
    took_s: Optional[float] = None
    severity: Optional[Severity] = None
    overridable: bool = False
    report: Optional[Report] = None
    protocol: int = PROTOCOL
