"""The procedure: the phase a host is in, the next step, and where a visit that ended badly must leave the host. Pure.

    one master          runs the target: NEW · runs another, path holds the target: SWAPPED · else OLD
    O accepts, N holds listeners                        OVERLAP
    O idle but holding its listeners, N accepts         TRIAL
    O without listeners, N accepts                      RETIRING
    O accepts, N alive without listeners                DISMISSING
    neither accepts, a master holds listeners           STRANDED
    no master                                           DOWN
    two masters, the target is neither's; anything else FOREIGN

O is the parent, N its child. With two masters the way is forward when the child runs the target and back when only the
parent does. A new master whose workers do not accept (yet) is in OVERLAP, too: it costs nothing, and `verify` finds it
out. Upgrade, resume, retry and rollback are all the same walk through `next_step`.
"""

from enum import Enum
from typing import Collection, Dict, NamedTuple, Optional, Tuple

from fleet.onhost.observation import Master, Observation
from fleet.onhost.protocol import Ask, Goal, Phase, Record, Rest, State, Step


class Way(Enum):
    """Whether the target is the younger of two masters, or the elder."""

    FORWARD = "forward"
    BACK = "back"


class Situation(NamedTuple):
    """All that the next step depends on: first what the host shows, then what this visit knows.

    `path_right`: the file at the path is the one that belongs there. `litter`: there is something to sweep. `verified`:
    the master that runs the target has been verified; where that is not wanted (on the way back) it counts as verified.
    `drain_pending`: the old master still had connections at the drain timeout. `taken`: the steps of this visit since the
    newest master appeared.
    """

    phase: Phase
    way: Way
    path_right: bool
    litter: bool
    verified: bool = False
    drain_pending: bool = False
    taken: Tuple[Step, ...] = ()


class MoveKind(Enum):
    """What the walk does next. `PENDING`: it ends here, the goal is reached once the old connections end. `UNDONE`: a
    step of this visit has been undone from outside, and is not repeated.
    """

    ACT = "act"
    WAIT = "wait"
    ARRIVED = "arrived"
    PENDING = "pending"
    UNDONE = "undone"
    BLOCKED = "blocked"


class Move(NamedTuple):
    """The next move. `step` is the act, the act that was undone, or the act that the visit may not do."""

    kind: MoveKind
    step: Optional[Step] = None


class Retreat(Enum):
    """What a visit that ended badly does before it leaves the host."""

    STAY = "stay"
    RESTORE_FILE = "restore_file"
    GO_BACK = "go_back"


class Unfinished(NamedTuple):
    """What a visit that ended badly has done, and what it leaves behind.

    `file_before`: the path holds the file that lay there before the rollout. `winch_pending`: WINCH was sent to the old
    master and its effect never showed.
    """

    phase: Phase
    path_right: bool
    has_master: bool
    file_before: bool
    has_swapped: bool
    has_verified: bool
    winch_pending: bool


ARRIVED = Move(MoveKind.ARRIVED)
WAIT = Move(MoveKind.WAIT)
PENDING = Move(MoveKind.PENDING)
BLOCKED = Move(MoveKind.BLOCKED)

RANK = {Phase.OLD: 0, Phase.SWAPPED: 1, Phase.OVERLAP: 2, Phase.TRIAL: 2, Phase.RETIRING: 3, Phase.NEW: 4}
"""How far the phases are on the way forward; a host found before where it was left went back by itself. A held host
whose old workers were revived by a reload did not: it is drained again.
"""
IN_BETWEEN = (Phase.SWAPPED, Phase.OVERLAP, Phase.TRIAL, Phase.RETIRING, Phase.DISMISSING, Phase.STRANDED)
"""Where a rollout that has begun on a host can have been left."""
WATCHED = (Phase.OVERLAP, Phase.TRIAL, Phase.RETIRING, Phase.NEW)
"""Where a bake finds the new release serving."""
NO_RETREAT = (Phase.OLD, Phase.TRIAL, Phase.RETIRING)
"""Where a visit that ended badly leaves the host as it is. NEW counts only with the right file at the path."""
GOING_BACK = (Step.REVIVE, Step.DISMISS, Step.RESTORE, Step.RETIRE, Step.SWEEP)
"""What a retreat may do."""
REACHED: Dict[Ask, State] = {
    Ask.ROLLBACK: State.ROLLED_BACK,
    Ask.LEASE: State.ROLLED_BACK,
    Ask.COMMIT: State.COMMITTED,
}


def classify(seen: Observation, target: str) -> Phase:
    """The phase of the host, seen from the release `target`."""
    if seen.alone is not None:
        return Phase.FOREIGN
    if not seen.masters:
        return Phase.DOWN
    if len(seen.masters) == 1:
        return _one(seen, seen.masters[0], target)
    if len(seen.masters) > 2 or seen.masters[1].ppid != seen.masters[0].pid:
        return Phase.FOREIGN
    old, new = seen.masters
    if target not in (old.sha256, new.sha256):
        return Phase.FOREIGN
    return _two(old, new)


def _one(seen: Observation, master: Master, target: str) -> Phase:
    if not master.accepting:
        return Phase.STRANDED if master.listeners else Phase.FOREIGN
    if master.sha256 == target:
        return Phase.NEW
    return Phase.SWAPPED if seen.path_sha256 == target else Phase.OLD


def _two(old: Master, new: Master) -> Phase:
    if old.accepting:
        return Phase.OVERLAP if new.listeners else Phase.DISMISSING
    if new.accepting:
        return Phase.TRIAL if old.listeners else Phase.RETIRING
    return Phase.STRANDED if old.listeners or new.listeners else Phase.FOREIGN


def way(seen: Observation, target: str) -> Way:
    """Back when the parent of two masters runs the target and its child does not, or does not serve it."""
    if len(seen.masters) != 2 or seen.masters[0].sha256 != target:
        return Way.FORWARD
    old, new = seen.masters
    serves_it = new.sha256 == target and (new.accepting or not old.accepting)
    return Way.FORWARD if serves_it else Way.BACK


def situation(seen: Observation, target: str, path_target: Optional[str] = None) -> Situation:
    """What the host shows. `path_target` is the file that belongs at the path, where it is another one than runs."""
    return Situation(
        phase=classify(seen, target),
        way=way(seen, target),
        path_right=seen.path_sha256 == (path_target or target),
        litter=bool(seen.litter or seen.orphans),
    )


def next_step(rest: Rest, now: Situation, allowed: Collection[Step]) -> Move:
    """The next move towards the goal. Total: every combination has an answer."""
    move = _settled(now, allowed) or _back(now) or _forward(rest, now)
    if move.step is None:
        return move
    if move.step not in allowed:
        return Move(MoveKind.BLOCKED, move.step)
    return Move(MoveKind.UNDONE, move.step) if move.step in now.taken else move


def _settled(now: Situation, allowed: Collection[Step]) -> Optional[Move]:
    """The moves that are the same on either way."""
    if now.phase in (Phase.DOWN, Phase.FOREIGN):
        return BLOCKED
    if now.phase is Phase.STRANDED:
        return _act(Step.REVIVE)
    return _alone(now, allowed) if now.phase is Phase.NEW else None


def _alone(now: Situation, allowed: Collection[Step]) -> Move:
    """The target serves alone: verify it if it never was, and tidy up. A visit that may not do these has arrived."""
    if not now.path_right and Step.RESTORE in allowed:
        return _act(Step.RESTORE)
    if not now.verified and Step.VERIFY in allowed:
        return _act(Step.VERIFY)
    is_tidy = now.path_right and not now.litter
    return ARRIVED if is_tidy or Step.SWEEP not in allowed else _act(Step.SWEEP)


def _forward(rest: Rest, now: Situation) -> Move:
    if now.phase is Phase.TRIAL and rest is Rest.HELD:
        return ARRIVED
    if now.phase in (Phase.TRIAL, Phase.RETIRING) and now.drain_pending:
        return PENDING
    return {
        Phase.OLD: _act(Step.SWAP),
        Phase.SWAPPED: _act(Step.LAUNCH),
        Phase.OVERLAP: _act(Step.DRAIN) if now.verified else _act(Step.VERIFY),
        Phase.TRIAL: _act(Step.RETIRE),
        Phase.RETIRING: WAIT,
        Phase.DISMISSING: WAIT,
    }[now.phase]


def _back(now: Situation) -> Optional[Move]:
    if now.way is Way.FORWARD:
        return None
    return {
        Phase.TRIAL: _act(Step.REVIVE),
        Phase.OVERLAP: _act(Step.DISMISS),
        Phase.DISMISSING: _act(Step.DISMISS),
        Phase.RETIRING: _act(Step.RETIRE),
    }.get(now.phase)


def _act(step: Step) -> Move:
    return Move(MoveKind.ACT, step)


def retreat(left: Unfinished) -> Retreat:
    """How the host comes to rest. Total: every combination has an answer.

    Before `drain` it goes back to what the elder master runs; from `drain` on it is held and stays. A path whose file was
    swapped by this visit and then replaced from outside is put right, too: the next start of nginx would run it. Without
    a master only the file can be put right, so that the next start runs no release that was never verified. A WINCH that
    waits in the old master would drain it as soon as the new one ends: then everything stays.
    """
    if not left.has_master:
        return Retreat.RESTORE_FILE if left.has_swapped and not left.has_verified else Retreat.STAY
    if left.winch_pending or left.phase in (Phase.FOREIGN, Phase.DOWN):
        return Retreat.STAY
    if left.phase is Phase.OLD and left.has_swapped and not left.file_before:
        return Retreat.GO_BACK
    if left.phase in NO_RETREAT or (left.phase is Phase.NEW and left.path_right):
        return Retreat.STAY
    return Retreat.GO_BACK


def elder_release(seen: Observation, record: Record) -> str:
    """Where a retreat goes: the release of the elder master."""
    return seen.masters[0].sha256 or record.before_process


def state_reached(ask: Ask, goal: Optional[Goal]) -> Optional[State]:
    """The record's state once this request has reached its goal; `None` leaves it unchanged."""
    if ask in REACHED:
        return REACHED[ask]
    return State.COMMITTED if goal is not None and goal.rest is Rest.FINAL else None


def is_unconfirmed(seen: Observation, record: Optional[Record], verified: Optional[Tuple[int, int]]) -> bool:
    """Whether the release of the record serves alone, by another master than the verified one (pid, start)."""
    if record is None or record.state is not State.BEGUN or len(seen.masters) != 1:
        return False
    master = seen.masters[0]
    return master.sha256 == record.target and (master.pid, master.start) != verified


def was_ended_from_outside(
    seen: Observation, record: Record, old: Optional[Tuple[int, int]], verified: Optional[Tuple[int, int]]
) -> bool:
    """Whether the old master (pid, start) of a rollout is gone without a commit, and the verified new one serves alone."""
    if record.state is not State.BEGUN or len(seen.masters) != 1 or old is None:
        return False
    master = seen.masters[0]
    return master.sha256 == record.target and (master.pid, master.start) == verified != old


def is_verified(
    seen: Observation, record: Record, target: str, now: Optional[Tuple[int, int]], earlier: Optional[Tuple[int, int]]
) -> bool:
    """Whether the newest master counts as verified: `now` and `earlier` are the masters (pid, start) that this visit and
    earlier ones have verified. A master that serves alone may have been verified by an earlier visit, and needs no
    verdict on the way back.
    """
    if not seen.masters:
        return False
    if now == (seen.masters[-1].pid, seen.masters[-1].start):
        return True
    goes_forward = target == record.target
    return len(seen.masters) == 1 and not (goes_forward and is_unconfirmed(seen, record, earlier))


def has_lost_its_old(seen: Observation, record: Record) -> bool:
    """Whether a host that should be held has one master only, without a commit."""
    return record.state is State.BEGUN and len(seen.masters) == 1


def is_behind(found: Phase, left_at: Optional[Phase]) -> bool:
    """Whether a host that was left in `left_at` has gone back since."""
    if left_at is None or left_at not in RANK or found not in RANK:
        return False
    return RANK[found] < RANK[left_at]
