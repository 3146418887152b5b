"""Which run may work on this instance: the fence refuses outdated requests, the claim refuses a second run.

The *fence* holds the highest epoch that was seen here. It never expires: a request with a lower epoch is an old one,
however long its laptop slept. The *claim* names the run that works here now. The first visit that may change something
takes it, each further one renews it, and it is void after its time or a reboot (CLOCK_BOOTTIME and boot id), so a dead
laptop blocks the host no longer than that. Runs of one journal are kept apart by the journal's lock, so a claim refuses
only runs of another journal. A rollback, or a request with `--force`, passes any claim.
"""

from typing import ContextManager, NamedTuple, Optional, Tuple

from fleet.onhost.protocol import Claim, Record, Request, State
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.wire import Malformed

REMEMBERED_UNDONE = 50
FENCE, CLAIM = "fence.json", "claim.json"
PATIENCE_S = 10.0


class TakenOver(Exception):
    """Another rollout has taken over this host since."""


class Claimed(Exception):
    """A run of another journal works on this host."""


class Fence(NamedTuple):
    """The highest epoch that this host has seen, the rollout it belongs to, and the rollouts that were rolled back here.

    A rollback marks its rollout as undone even on a host that had not begun. An upgrade of that rollout that still runs
    elsewhere then can't begin here, whatever the clocks and numbers of the two laptops say.
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
    """The claim in force; `None` if it has run out, the host was booted since, or it can't be read."""
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
    """Give the host to this request's rollout, and return the epoch that it has there.

    `None` for a rollback of a rollout that is not in force here: it is only marked as undone, and a run of another rollout
    may continue. Raises `TakenOver` and `Claimed`, which name the run that has the host, and OSError.
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
    """The fence, or an empty one: a file that can't be read must not stop a rollback."""
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
    """Whether a resume may upgrade this host again after it went back, because it failed or its lease expired. A host that
    an operator rolled back stays so until a new upgrade.
    """
    if record is None or record.rollout != rollout:
        return False
    return record.state is State.ROLLED_BACK and bool(record.why)


def _set(own: InstanceStore, fence: Fence, request: Request, epoch: int) -> int:
    own.save(FENCE, Fence(epoch, request.rollout, request.operator, own.machine.utc(), fence.undone))
    _renew(own, request)
    return epoch


def _renew(own: InstanceStore, request: Request) -> None:
    """Write this request's claim. A request without a claim time removes any claim."""
    if request.claim_s <= 0.0:
        own.drop(CLAIM)
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
        lasting=False,
    )


def refuse_claimed(own: InstanceStore, request: Request) -> None:
    """Raises `Claimed` when a run of another journal works here, unless the request is forced."""
    found = claim_of(own)
    if found is None or request.force or found.journal == request.sender.journal:
        return
    left_s = found.until_s - own.machine.boottime_s()
    raise Claimed("%s; its claim ends in %.0f s at the latest" % (claim_in_words(found), max(0.0, left_s)))


def claim_in_words(found: Claim) -> str:
    """The claim for people: the run, and since when."""
    return "rollout %s by %s (pid %d on %s), since %s, last contact %s" % (
        found.rollout,
        found.operator,
        found.pid,
        found.controller,
        found.since,
        found.beat_at,
    )


def release(own: InstanceStore, request: Request) -> None:
    """Remove the claim. Raises `Claimed` for the claim of another journal, unless the request is forced."""
    with _alone(own):
        refuse_claimed(own, request)
        own.drop(CLAIM)


def disclaim(own: InstanceStore, request: Request) -> None:
    """Remove the claim of this request's rollout, which began nothing here. Raises OSError."""
    held = _written_claim(own)
    if held is not None and held.rollout == request.rollout:
        own.drop(CLAIM)


def check(own: InstanceStore, rollout: str, epoch: int) -> None:
    """Raises `TakenOver` when another rollout has claimed the host since."""
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
