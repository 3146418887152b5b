"""Who may work on this instance: the fence keeps out what is outdated, the claim keeps out whoever comes second.

The *fence* holds the highest epoch that was seen here. It never expires: a request of a lower epoch is an old one,
however long its laptop slept. The *claim* says who is at work here now: taken at the first visit that may change
something, renewed by each further one, and void after its time (CLOCK_BOOTTIME, so also after a reboot), so that a dead
laptop keeps nobody out for longer than that. Runs that share a journal are kept apart by the journal's own lock, so a
claim keeps out only those of another journal. A rollback always gets in, and so does whoever forces it.
"""

from typing import ContextManager, NamedTuple, Optional, Tuple

from fleet.onhost.protocol import Claim, Record, Request, State
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.wire import Malformed

REMEMBERED_UNDONE = 50
FENCE, CLAIM = "fence.json", "claim.json"
PATIENCE_S = 10.0


class TakenOver(Exception):
    """Somebody else has been given this host since."""


class Claimed(Exception):
    """Somebody else is at work on this host."""


class Fence(NamedTuple):
    """The highest epoch this host has seen, whose it is, and the rollouts that were rolled back here.

    A rollback marks its rollout undone also on a host that had not begun, so that the upgrade that is still running
    elsewhere can't start here afterwards, whatever the two laptops' clocks and numbers say.
    """

    epoch: int = 0
    rollout: str = ""
    operator: str = ""
    at: str = ""
    undone: Tuple[str, ...] = ()


def fence_of(own: InstanceStore) -> Fence:
    """The fence as it stands. Raises `Malformed`."""
    found: Optional[Fence] = own.load(Fence, FENCE)
    return found or Fence()


def claim_of(own: InstanceStore) -> Optional[Claim]:
    """Who is at work here, unless the claim has run out or the host was booted since. One that can't be read is none."""
    found = _written_claim(own)
    if found is None or found.boot_id != own.machine.boot_id() or found.until_s <= own.machine.boottime_s():
        return None
    return found


def _written_claim(own: InstanceStore) -> Optional[Claim]:
    try:
        found: Optional[Claim] = own.load(Claim, CLAIM)
    except Malformed:
        return None
    return found


def claim(own: InstanceStore, request: Request) -> Optional[int]:
    """This request's rollout has the host. The epoch it now has.

    A rollback of a rollout that is not in force here only marks it undone, and has no epoch: whoever is at work here
    may go on. Raises `TakenOver` and `Claimed`, naming who has the host, and OSError.
    """
    with _alone(own):
        if not request.take_over:
            return _join(own, fence_of(own), request)
        fence = _fence_at_any_rate(own)
        undone = tuple(one for one in fence.undone if one != request.rollout) + (request.rollout,)
        marked = fence._replace(undone=undone[-REMEMBERED_UNDONE:])
        if not _concerns(own, request.rollout):
            own.save(FENCE, marked)
            disclaim(own, request)
            return None
        return _set(own, marked, request, max(fence.epoch + 1, request.epoch))


def _fence_at_any_rate(own: InstanceStore) -> Fence:
    """The fence, or a new one: a way back is not kept out by a file that can't be read."""
    try:
        return fence_of(own)
    except Malformed:
        return Fence()


def _join(own: InstanceStore, fence: Fence, request: Request) -> int:
    if request.reopen and request.epoch > fence.epoch and may_reopen(own.record, request.rollout):
        fence = fence._replace(undone=tuple(one for one in fence.undone if one != request.rollout))
    _refuse_outdated(fence, request.rollout, request.epoch)
    refuse_claimed(own, request)
    if request.epoch > fence.epoch or request.rollout != fence.rollout:
        return _set(own, fence, request, request.epoch)
    _renew(own, request)
    return request.epoch


def may_reopen(record: Optional[Record], rollout: str) -> bool:
    """Whether a resume may upgrade a host again that was taken back: it failed, or its lease ran out. What an operator
    took back stays so until a new upgrade.
    """
    if record is None or record.rollout != rollout:
        return False
    return record.state is State.ROLLED_BACK and bool(record.why)


def _set(own: InstanceStore, fence: Fence, request: Request, epoch: int) -> int:
    own.save(FENCE, Fence(epoch, request.rollout, request.operator, own.machine.utc(), fence.undone))
    _renew(own, request)
    return epoch


def _renew(own: InstanceStore, request: Request) -> None:
    """The claim is this request's for its time from now on; a request that wants none leaves none of another's."""
    if request.claim_s <= 0.0:
        own.remove(CLAIM)
        return
    machine, sender = own.machine, request.sender
    last = _written_claim(own)
    ours = last is not None and (last.rollout, last.journal) == (request.rollout, sender.journal)
    now = machine.utc()
    since = last.since if ours and last is not None else now
    own.save(
        CLAIM,
        Claim(
            rollout=request.rollout,
            journal=sender.journal,
            operator=request.operator,
            controller=sender.controller,
            pid=sender.pid,
            since=since,
            beat_at=now,
            boot_id=machine.boot_id(),
            until_s=machine.boottime_s() + request.claim_s,
        ),
    )


def refuse_claimed(own: InstanceStore, request: Request) -> None:
    """Raises `Claimed` when another journal's run is at work here and this request does not take the host by force."""
    found = claim_of(own)
    if found is None or request.force or found.journal == request.sender.journal:
        return
    left_s = found.until_s - own.machine.boottime_s()
    raise Claimed("%s; its claim ends in %.0f s at the latest" % (claim_in_words(found), max(0.0, left_s)))


def claim_in_words(found: Claim) -> str:
    """Whose, and since when."""
    return "rollout %s by %s (pid %d on %s), since %s, last contact %s" % (
        found.rollout,
        found.operator,
        found.pid,
        found.controller,
        found.since,
        found.beat_at,
    )


def release(own: InstanceStore, request: Request) -> None:
    """Nobody is at work here any more; the claim of another journal stays, unless it is taken by force."""
    with _alone(own):
        refuse_claimed(own, request)
        own.remove(CLAIM)


def disclaim(own: InstanceStore, request: Request) -> None:
    """This request's rollout, which has begun nothing here, keeps nobody out. Raises OSError."""
    held = _written_claim(own)
    if held is not None and held.rollout == request.rollout:
        own.remove(CLAIM)


def check(own: InstanceStore, rollout: str, epoch: int) -> None:
    """Raises `TakenOver` when the host has been given to somebody else since `claim`."""
    fence = fence_of(own)
    if (fence.epoch, fence.rollout) != (epoch, rollout):
        raise TakenOver(_by(fence))


def _alone(own: InstanceStore) -> ContextManager[None]:
    return own.lock(PATIENCE_S, "fence.lock")


def _concerns(own: InstanceStore, rollout: str) -> bool:
    """Whether a rollback of this rollout may have something to do here."""
    known = [record.rollout for record in (own.record, own.previous) if record is not None]
    return not known or rollout in known


def _refuse_outdated(fence: Fence, rollout: str, epoch: int) -> None:
    if rollout in fence.undone:
        raise TakenOver("rollout %s was rolled back here, and %s" % (rollout, _by(fence)))
    if epoch < fence.epoch or (epoch == fence.epoch and rollout != fence.rollout):
        raise TakenOver(_by(fence))


def _by(fence: Fence) -> str:
    return "%s has it since %s (rollout %s)" % (
        fence.operator or "an unknown operator",
        fence.at or "?",
        fence.rollout or "?",
    )
