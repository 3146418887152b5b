"""The procedure: what phase a host is in, and which step comes next. Pure: a look and a goal in, a move out.

    one master          runs the target: NEW · runs another, path holds the target: SWAPPED · else OLD
    O accepts, N holds listeners                        OVERLAP
    O idle but holding its listeners, N accepts         TRIAL
    O without listeners, N accepts                      RETIRING
    O accepts, N alive without listeners                DISMISSING
    neither accepts, a master holds listeners           STRANDED
    no master                                           DOWN
    two masters, the target is neither's; anything else FOREIGN

O is the parent, N its child. With two masters the way is forward when the child runs the target and back when only the
parent does. A new master whose workers do not accept yet (or never will) is in OVERLAP, too: nothing is lost by it, and
`verify` is the step that finds it out. Upgrade, resume, retry and rollback are all the same walk through `next_step`.
"""

from enum import Enum
from typing import Collection, NamedTuple, Optional

from fleet.onhost.protocol import Master, Observation, Phase, Rest, Step


class Way(Enum):
    """Whether the target is the younger of two masters, or the elder."""

    FORWARD = "forward"
    BACK = "back"


class Situation(NamedTuple):
    """All that the next step hangs on. `path_right`: the file at the path is the one that belongs there."""

    phase: Phase
    way: Way
    path_right: bool
    litter: bool


class MoveKind(Enum):
    """What the host should do now."""

    ACT = "act"
    WAIT = "wait"
    ARRIVED = "arrived"
    BLOCKED = "blocked"


class Move(NamedTuple):
    """The next move; `step` is set when it is an act, or the act that is missing from what the visit may do."""

    kind: MoveKind
    step: Optional[Step] = None


ARRIVED = Move(MoveKind.ARRIVED)
WAIT = Move(MoveKind.WAIT)
BLOCKED = Move(MoveKind.BLOCKED)

RANK = {Phase.OLD: 0, Phase.SWAPPED: 1, Phase.OVERLAP: 2, Phase.TRIAL: 2, Phase.RETIRING: 3, Phase.NEW: 4}
"""How far the phases are on the way forward; a host found before where it was left went back by itself. A held host
whose old workers somebody revived by a reload did not: it is drained again.
"""


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
    """What `next_step` must know. `path_target` is what belongs at the path, when that is another file than runs."""
    return Situation(
        phase=classify(seen, target),
        way=way(seen, target),
        path_right=seen.path_sha256 == (path_target or target),
        litter=bool(seen.litter or seen.orphans),
    )


def next_step(rest: Rest, now: Situation, verified: bool, allowed: Collection[Step]) -> Move:
    """The next move towards the goal. Total: every combination has an answer."""
    move = _settled(now) or _back(now) or _forward(rest, now, verified)
    if move.kind is MoveKind.ACT and move.step not in allowed:
        return _without(now, move, allowed)
    return move


def _without(now: Situation, move: Move, allowed: Collection[Step]) -> Move:
    """A visit that may not tidy up has arrived all the same; any other missing right blocks it."""
    if move.step is Step.RESTORE and Step.SWEEP in allowed:
        return _act(Step.SWEEP)
    if move.step in (Step.RESTORE, Step.SWEEP) and now.phase is Phase.NEW:
        return ARRIVED
    return Move(MoveKind.BLOCKED, move.step)


def _settled(now: Situation) -> Optional[Move]:
    """The moves that do not hang on the way."""
    if now.phase in (Phase.DOWN, Phase.FOREIGN):
        return BLOCKED
    if now.phase is Phase.STRANDED:
        return _act(Step.REVIVE)
    if now.phase is Phase.NEW:
        if not now.path_right:
            return _act(Step.RESTORE)
        return _act(Step.SWEEP) if now.litter else ARRIVED
    return None


def _forward(rest: Rest, now: Situation, verified: bool) -> Move:
    if now.phase is Phase.TRIAL:
        return _act(Step.RETIRE) if rest is Rest.FINAL else ARRIVED
    return {
        Phase.OLD: _act(Step.SWAP),
        Phase.SWAPPED: _act(Step.LAUNCH),
        Phase.OVERLAP: _act(Step.DRAIN) if verified else _act(Step.VERIFY),
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


def is_behind(found: Phase, left_at: Optional[Phase]) -> bool:
    """Whether a host that was left in `left_at` has gone back since."""
    if left_at is None or left_at not in RANK or found not in RANK:
        return False
    return RANK[found] < RANK[left_at]
