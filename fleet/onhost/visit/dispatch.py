"""A request, answered: find the instance, guard it, and do what the request asks for."""

import sys
import traceback
from contextlib import ExitStack, suppress
from typing import Callable, Optional, Tuple

from fleet.onhost.nginx.observe import Observer
from fleet.onhost.procedure import classify
from fleet.onhost.protocol import MAY_DO, PROTOCOL, Ask, Goal, Outcome, Phase, Report, Request, Rest, State
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.state import lease
from fleet.onhost.state.fence import CLAIM, Claimed, TakenOver, check, claim, disclaim, refuse_claimed, release
from fleet.onhost.state.store import InstanceStore, Store
from fleet.onhost.steps.verify import judge_afresh
from fleet.onhost.system.file_lock import Busy
from fleet.onhost.system.machine import Machine
from fleet.onhost.visit.drive import site_of, walk, whose
from fleet.onhost.visit.locate import locate
from fleet.onhost.visit.report import report
from fleet.onhost.visit.request import Say, Visit
from fleet.onhost.visit.rollback import rollback
from fleet.onhost.visit.staging import answer_stage
from fleet.onhost.visit.upgrade import upgrade
from fleet.onhost.visit.walk import End, bake, ended, went_back
from fleet.onhost.wire import Malformed

LOCK_WAIT_S = 10.0
ROLLBACK_WAIT_S = 60.0


def serve(machine: Machine, request: Request, say: Say, go_on: Callable[[], None]) -> Tuple[End, Optional[Report]]:
    """How the visit ended, and what the host says of itself then."""
    layout = locate(machine, request.layout)
    store = Store(machine, layout.state_dir)
    own = store.instance(layout.pid_file) if layout.pid_file else None
    visit = Visit(machine, request, store, Observer(machine, layout), own, say, go_on)
    try:
        end = _answer(visit)
        return end, report(machine, visit.observer.look(), own, layout)
    except Malformed as error:
        return ended(Outcome.FAILED, "bad_record", error=error), None
    except OSError as error:
        return ended(Outcome.FAILED, "host_io", error=error), _report_anyway(visit)
    except Exception as error:  # a bug of ours: the controller must hear of it, or it would take it for a lost link
        sys.stderr.write(traceback.format_exc())
        words = "%s: %s" % (type(error).__name__, error)
        return ended(Outcome.FAILED, "bug", error=words), _report_anyway(visit)


def _report_anyway(visit: Visit) -> Optional[Report]:
    try:
        return report(visit.machine, visit.observer.look(), visit.own, visit.observer.layout)
    except Exception:  # what is wrong has been said already
        return None


def _answer(visit: Visit) -> End:
    if visit.request.ask is Ask.LOOK:
        return End(Outcome.DONE)
    if visit.own is None and visit.request.ask is not Ask.STAGE:
        return ended(Outcome.REFUSED, "no_master", named="")
    try:
        return _among_others(visit, visit.own)
    except Claimed as error:
        return ended(Outcome.REFUSED, "claimed", by=error)
    except TakenOver as error:
        return ended(Outcome.REFUSED, "taken_over", by=error)
    except Busy as error:
        return ended(Outcome.REFUSED, "busy", who=error)


def _among_others(visit: Visit, own: Optional[InstanceStore]) -> End:
    """The answer, unless somebody else has the host. Raises `Claimed`, `TakenOver`, `Busy`."""
    request = visit.request
    if request.ask is Ask.STAGE or own is None:
        if own is not None:
            refuse_claimed(own, request)
            _look_afresh(visit, own)
        return answer_stage(visit)
    if request.ask is Ask.UNLOCK:
        release(own, request)
        return End(Outcome.DONE)
    with ExitStack() as held:
        epoch: Optional[int] = None
        try:
            epoch = claim(own, request)
            if epoch is None:  # it is only marked as undone here; whoever is at work may go on
                return ended(Outcome.DONE, "other_rollout", whose=whose(own.record))
        except OSError as error:
            _say_unclaimed(visit, own, error)
        if request.ask is not Ask.BAKE:
            _hold_lock(own, request, held)
        end = _guarded(visit, own, epoch)
        if request.ask is Ask.BAKE and epoch is not None:
            _renew_alone(visit, own, epoch, end)
        elif request.ask is not Ask.BAKE:
            _settle(visit, own, end)
        return end


def _look_afresh(visit: Visit, own: InstanceStore) -> None:
    """A resume asks each host first of all where it is; what its log had until then was told and judged before."""
    record = own.record if visit.request.reopen else None
    if record is not None and record.rollout == visit.request.rollout:
        with suppress(Busy), own.lock(0.0):  # a script that is still at work there knows better
            judge_afresh(site_of(visit, own, record, None, record.target), visit.observer.look())


def _renew_alone(visit: Visit, own: InstanceStore, epoch: int, end: End) -> None:
    """A look renews the lease, too, with the lock for that moment alone; whoever has it settles that himself."""
    with suppress(Busy, TakenOver), own.lock(LOCK_WAIT_S):
        check(own, visit.request.rollout, epoch)
        _settle(visit, own, end)


def _settle(visit: Visit, own: InstanceStore, end: End) -> None:
    """The last act under the lock: a host that is still in the rollout has its lease renewed, one that is not has none.

    A commit ends the lease even where old connections still drain: the operator has decided. A look renews only one
    that is in force: it makes none where a commit or a reboot has ended it.
    """
    record, ask = own.record, visit.request.ask
    if record is None or record.rollout != visit.request.rollout:
        with suppress(OSError):
            disclaim(own, visit.request)  # nothing was begun here, so nobody is at work
        return
    is_open = record.state is State.BEGUN and classify(visit.observer.look(), record.target) is not Phase.OLD
    committed = ask is Ask.COMMIT and end.outcome is Outcome.DONE
    try:
        if not is_open or committed:
            lease.end(own)
        elif ask is Ask.UPGRADE or (ask is Ask.BAKE and lease.lease_of(own) is not None):
            lease.arm(own, visit.request)
        if not is_open or committed:
            own.remove(CLAIM)
    except (OSError, lease.Unwatched) as error:
        visit.find(finding("lease_not_renewed", error=error, left=lease.left_s(own) or 0.0))


def _say_unclaimed(visit: Visit, own: InstanceStore, error: OSError) -> None:
    """A full disk keeps an upgrade out, but never a way back, nor a look: then the fence is not written, and that is said.

    Raises the error that kept the rest out.
    """
    if visit.request.ask not in (Ask.ROLLBACK, Ask.BAKE):
        raise error
    visit.find(finding("not_fenced", error=error, folder=own.folder))
    left_s = lease.left_s(own) if visit.request.ask is Ask.BAKE else None
    if left_s is not None:
        visit.find(finding("lease_not_renewed", error=error, left=left_s))


def _hold_lock(own: InstanceStore, request: Request, held: ExitStack) -> None:
    """The instance's lock is held. A way back goes on without one whose file can't even be opened (a full disk)."""
    try:
        held.enter_context(own.lock(ROLLBACK_WAIT_S if request.take_over else LOCK_WAIT_S))
    except OSError:
        if not request.take_over:
            raise
        return
    with suppress(OSError):
        own.tidy()


def _guarded(visit: Visit, own: InstanceStore, epoch: Optional[int]) -> End:
    """With the host claimed and, but for a bake, locked."""
    seen = visit.observer.look()
    record, request = own.record, visit.request
    if request.ask is Ask.ROLLBACK:
        return rollback(visit, own, epoch, record, seen)
    if request.ask is Ask.UPGRADE:
        return upgrade(visit, own, epoch, record, seen)
    if record is None or record.rollout != request.rollout:
        return ended(Outcome.REFUSED, "other_rollout", whose=whose(record))
    behind = went_back(request, record, classify(seen, record.target), own.folder)
    if behind is not None:
        return behind
    site = site_of(visit, own, record, epoch, record.target)
    if request.ask is Ask.BAKE:
        return bake(site, seen)
    return walk(visit, site, Goal(record.target, Rest.FINAL))


def go_back_by_lease(machine: Machine, own: InstanceStore, found: lease.Lease) -> End:
    """The host is OLD again, because its lease ran out; its lock is held. What was done is in the host's journal."""
    layout, record = own.layout, own.record
    if layout is None or record is None:
        return ended(Outcome.FAILED, "bad_record", error="%s is not whole" % own.folder)
    request = Request(
        PROTOCOL,
        Ask.LEASE,
        found.rollout,
        found.epoch,
        "the lease of %s" % found.operator,
        None,
        MAY_DO[Ask.LEASE],
        layout,
        found.options,
        sender=found.sender,
    )
    store = Store(machine, layout.state_dir)
    visit = Visit(machine, request, store, Observer(machine, layout), own, lambda reply: None, lambda: None)
    with suppress(OSError):
        own.note(lease="ran_out", rollout=found.rollout, lease_s=found.lease_s)
    end = rollback(visit, own, None, record, visit.observer.look())
    with suppress(OSError):
        if end.outcome is not Outcome.DONE:
            own.write_record(record._replace(why="its lease ran out, and it could not go back: %s" % end.message))
        own.note(lease="ended", outcome=end.outcome.value, reason=end.reason, message=end.message)
    _settle(visit, own, end)
    return end
