"""Answers a request that may act: takes claim and lock, and calls the module of the request."""

import sys
from contextlib import ExitStack, suppress
from typing import Optional

from fleet.onhost.bootstrap.own_psutil import loaded
from fleet.onhost.instance import Instance
from fleet.onhost.procedure import classify
from fleet.onhost.protocol import MAY_DO, PROTOCOL, Ask, Goal, Outcome, Phase, Record, Request, Rest, State
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.state import lease, retirement, watcher
from fleet.onhost.state.fence import CLAIM, Claimed, TakenOver, check, claim, disclaim, refuse_claimed, release
from fleet.onhost.state.package_hold import NotDone, held_by_fleet, release_package
from fleet.onhost.steps.log_evidence import judge_afresh
from fleet.onhost.system.file_lock import Busy
from fleet.onhost.visit.end import End, ended, in_other_rollout
from fleet.onhost.visit.preloaded import MODULES as PRELOADED  # noqa: F401  # before anything is done
from fleet.onhost.visit.request import Visit
from fleet.onhost.visit.rollback import rollback
from fleet.onhost.visit.say_committed import say_committed
from fleet.onhost.visit.unit_care import settle_unit
from fleet.onhost.visit.walk import bake, behind, walk

LOCK_WAIT_S = 10.0
ROLLBACK_WAIT_S = 60.0


def answer(visit: Visit) -> End:
    """How the visit ended. Raises `Malformed` and OSError for files of the host that can't be read or written."""
    request = visit.request
    if request.ask is Ask.LOOK:
        return End(Outcome.DONE)
    if visit.instance.kept is None and request.ask is not Ask.STAGE:
        return ended(Outcome.REFUSED, "no_master", named="")
    try:
        loaded()
    except ImportError as error:  # fleet could not signal nginx, so it begins nothing.
        return ended(Outcome.REFUSED, "psutil_missing", python=sys.executable, why=error)
    try:
        return _among_others(visit)
    except Claimed as error:
        return ended(Outcome.REFUSED, "claimed", by=error)
    except TakenOver as error:
        return ended(Outcome.REFUSED, "taken_over", by=error)
    except Busy as error:
        return ended(Outcome.REFUSED, "busy", holder=error)


def _among_others(visit: Visit) -> End:
    """The answer, unless another request has the host. Raises `Claimed`, `TakenOver`, `Busy`."""
    request = visit.request
    if request.ask is Ask.STAGE:
        from fleet.onhost.visit.staging import answer_stage

        if visit.instance.kept is not None:
            refuse_claimed(visit.instance.own, request)
            _look_afresh(visit)
        return answer_stage(visit)
    if request.ask is Ask.UNLOCK:
        release(visit.instance.own, request)
        return End(Outcome.DONE)
    if request.ask is Ask.BAKE:
        return _look_in(visit)
    with ExitStack() as held:
        try:
            epoch = claim(visit.instance.own, request)
            if epoch is None:  # The rollout is only marked as undone here; a visit of another one may continue.
                return in_other_rollout(Outcome.DONE, visit.instance.record)
            visit = visit.fenced(epoch)
        except OSError as error:
            _say_unclaimed(visit, error)
        _hold_lock(visit, held)
        if request.ask is Ask.ROLLBACK:
            with suppress(OSError):  # The fence keeps the watcher from it, too.
                retirement.end(visit.instance.own)
        end = _guarded(visit)
        _settle(visit, end)
        return end


def _look_in(visit: Visit) -> End:
    """A bake's look. It renews the lease, too, and takes the lock for that moment only."""
    own, request = visit.instance.own, visit.request
    epoch: Optional[int] = None
    try:
        epoch = claim(own, request)
    except OSError as error:
        _say_unclaimed(visit, error)
    end = _guarded(visit)
    if epoch is not None:
        with suppress(Busy, TakenOver), own.lock(LOCK_WAIT_S):  # A visit that has the lock settles the lease itself.
            check(own, request.rollout, epoch)
            _settle(visit, end)
    return end


def _look_afresh(visit: Visit) -> None:
    """On a resume, ignore the log lines until now: fleet has shown them to the operator, who resumed all the same."""
    own = visit.instance.own
    record = own.record if visit.request.reopen else None
    if record is not None and record.rollout == visit.request.rollout:
        with suppress(Busy), own.lock(0.0):  # A visit that is still at work there judges better.
            judge_afresh(visit.context(record, record.target), visit.instance.look())


def _is_open(instance: Instance) -> bool:
    """Whether the host is in a rollout that is neither committed nor taken back."""
    record = instance.record
    is_begun = record is not None and record.state is State.BEGUN
    return record is not None and is_begun and classify(instance.look(), record.target) is not Phase.OLD


def _free_package(visit: Visit) -> None:
    """Release the package that fleet has held, once no rollout is open here any more."""
    own = visit.instance.own
    if held_by_fleet(own) is None or _is_open(visit.instance):
        return
    try:
        release_package(own)
    except (OSError, NotDone) as error:
        command = error.command if isinstance(error, NotDone) else "apt-mark unhold nginx"
        visit.find(finding("package_still_held", error=error, command=command))


def _settle(visit: Visit, end: End) -> None:
    """The last act under the lock: a host that is still in the rollout has its lease renewed, any other host has none.

    A commit ends the lease even where old connections still drain: the operator has decided. A look renews only a lease
    that is in force: it makes none where a commit or a reboot has ended it.
    """
    settle_unit(visit)
    _free_package(visit)
    own, request = visit.instance.own, visit.request
    if request.ask is not Ask.BAKE:  # A look notes nothing that a power cut may not take.
        with suppress(OSError):
            own.flush()
    record, ask = own.record, request.ask
    if record is None or record.rollout != request.rollout:
        with suppress(OSError):
            disclaim(own, request)  # The request began nothing here, so its claim must not block another one.
        return
    is_open = _is_open(visit.instance)
    committed = ask is Ask.COMMIT and end.outcome is Outcome.DONE
    try:
        if not is_open or committed:
            lease.end(own)
        elif ask is Ask.UPGRADE or (ask is Ask.BAKE and lease.lease_of(own) is not None):
            lease.renew(own, request)
        if not is_open:
            retirement.end(own)
        if not is_open or committed:
            own.drop(CLAIM)
        # Also for a visit that renews nothing: the last watcher may have been killed.
        for found in watcher.ensure_watched(own):
            visit.find(found)
    except watcher.Unwatched as error:
        visit.find(finding("watcher_dead", error=error))
    except OSError as error:
        visit.find(finding("lease_not_renewed", error=error, left=lease.left_s(own) or 0.0))


def _say_unclaimed(visit: Visit, error: OSError) -> None:
    """Warn that the fence could not be written. A full disk stops neither a way back nor a look.

    Raises the error for any other request.
    """
    own, ask = visit.instance.own, visit.request.ask
    if ask not in (Ask.ROLLBACK, Ask.BAKE):
        raise error
    visit.find(finding("not_fenced", error=error, folder=own.folder))
    left_s = lease.left_s(own) if ask is Ask.BAKE else None
    if left_s is not None:
        visit.find(finding("lease_not_renewed", error=error, left=left_s))


def _hold_lock(visit: Visit, held: ExitStack) -> None:
    """Hold the instance's lock. A rollback continues without the lock if its file can't be opened (a full disk)."""
    own, take_over = visit.instance.own, visit.request.take_over
    try:
        held.enter_context(own.lock(ROLLBACK_WAIT_S if take_over else LOCK_WAIT_S))
    except OSError:
        if not take_over:
            raise
        return
    with suppress(OSError):
        own.tidy()


def _guarded(visit: Visit) -> End:
    """The answer, with the host claimed and, but for a bake, locked."""
    seen, record, request = visit.instance.look(), visit.instance.record, visit.request
    if request.ask is Ask.ROLLBACK:
        return rollback(visit, record, seen)
    if request.ask is Ask.UPGRADE:
        from fleet.onhost.visit.upgrade import upgrade

        return upgrade(visit, record, seen)
    if record is None or record.rollout != request.rollout:
        return in_other_rollout(Outcome.REFUSED, record)
    end = behind(request, record, classify(seen, record.target), visit.instance.own.folder)
    if end is not None:
        return end
    if request.ask is Ask.BAKE:
        return bake(visit.context(record, record.target), seen)
    return walk(visit, say_committed(visit, record, seen), Goal(record.target, Rest.FINAL))


def finish(visit: Visit) -> End:
    """Finish a commit that was left to the host. Its lock is held."""
    end = _guarded(visit)
    _settle(visit, end)
    return end


def go_back_by_lease(instance: Instance, record: Record, found: lease.Lease) -> End:
    """Take the host back because its lease ran out. Its lock is held; the host's journal tells what was done."""
    own = instance.own
    request = Request(
        PROTOCOL,
        Ask.LEASE,
        found.rollout,
        found.epoch,
        "the lease of %s" % found.operator,
        None,
        MAY_DO[Ask.LEASE],
        instance.layout,
        found.options,
        sender=found.sender,
    )
    visit = Visit(instance, request, lambda reply: None, lambda: None)
    instance.note(lease="ran_out", rollout=found.rollout, lease_s=found.lease_s)
    end = rollback(visit, record, instance.look())
    with suppress(OSError):
        if end.outcome is not Outcome.DONE:
            own.write_record(record._replace(why="its lease ran out, and the rollback failed: %s" % end.message))
    instance.note(lease="ended", outcome=end.outcome.value, reason=end.reason, message=end.message)
    _settle(visit, end)
    return end
