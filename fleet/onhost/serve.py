"""A request, answered: find the instance, guard it, and do what the request asks for."""

import os
import sys
from contextlib import ExitStack, suppress
from shlex import quote
from typing import Callable, Optional, Tuple

from fleet.onhost import lease, preflight
from fleet.onhost.asked import Say, Visit
from fleet.onhost.back import restore
from fleet.onhost.control import fenced
from fleet.onhost.fence import CLAIM, Claimed, TakenOver, check, claim, refuse_claimed, release
from fleet.onhost.locate import locate
from fleet.onhost.lock import Busy
from fleet.onhost.machine import Machine
from fleet.onhost.observe import Observer
from fleet.onhost.procedure import classify
from fleet.onhost.protocol import (
    MAY_DO,
    PROTOCOL,
    Ask,
    Finding,
    Goal,
    Layout,
    Malformed,
    Observation,
    Outcome,
    Phase,
    Record,
    Report,
    Request,
    Rest,
    Severity,
    State,
)
from fleet.onhost.record import InstanceStore, Store
from fleet.onhost.report import report
from fleet.onhost.site import Site
from fleet.onhost.staging import answer_stage, judged, serving_of
from fleet.onhost.visit import End, act, bake, went_back

LOCK_WAIT_S = 10.0
ROLLBACK_WAIT_S = 60.0
IN_BETWEEN = (Phase.OVERLAP, Phase.TRIAL, Phase.RETIRING, Phase.DISMISSING, Phase.STRANDED)


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
        return End(Outcome.FAILED, "bad_record", str(error), "Mend or remove that file by hand."), None
    except OSError as error:
        remedy = "Free space or mend the folder, then ask again."
        return End(Outcome.FAILED, "host_io", str(error), remedy), _report_anyway(visit)


def _report_anyway(visit: Visit) -> Optional[Report]:
    try:
        return report(visit.machine, visit.observer.look(), visit.own, visit.observer.layout)
    except (OSError, Malformed):
        return None


def _answer(visit: Visit) -> End:
    if visit.request.ask is Ask.LOOK:
        return End(Outcome.DONE)
    if visit.own is None and visit.request.ask is not Ask.STAGE:
        return End(
            Outcome.REFUSED, "no_master", "no nginx master was found here", "Start nginx, or name nginx_pid_file."
        )
    try:
        return _among_others(visit, visit.own)
    except Claimed as error:
        remedy = "Wait for it (--lock-wait 5m), or take the host over: --force."
        return End(Outcome.REFUSED, "claimed", str(error), remedy)
    except TakenOver as error:
        return End(Outcome.REFUSED, "taken_over", str(error), "Ask whoever that is; `fleet status` shows it.")
    except Busy as error:
        remedy = "Wait for it; if it is stopped or hangs, end it (kill -9), then ask again."
        return End(Outcome.REFUSED, "busy", "%s is at work on this instance" % error, remedy)


def _among_others(visit: Visit, own: Optional[InstanceStore]) -> End:
    """The answer, unless somebody else has the host. Raises `Claimed`, `TakenOver`, `Busy`."""
    request = visit.request
    if request.ask is Ask.STAGE or own is None:
        if own is not None:
            refuse_claimed(own, request)
        return answer_stage(visit)
    if request.ask is Ask.UNLOCK:
        release(own, request)
        return End(Outcome.DONE)
    with ExitStack() as held:
        epoch = _claimed(visit, own, held)
        end = _guarded(visit, own, epoch)
        if request.ask is Ask.BAKE and epoch is not None:
            _renew_alone(visit, own, epoch, end)
        elif request.ask is not Ask.BAKE:
            _settle(visit, own, end)
        return end


def _renew_alone(visit: Visit, own: InstanceStore, epoch: int, end: End) -> None:
    """A look renews the lease, too, with the lock for that moment alone; whoever has it settles that himself."""
    with suppress(Busy, TakenOver), own.lock(LOCK_WAIT_S):
        check(own, visit.request.rollout, epoch)
        _settle(visit, own, end)


def _settle(visit: Visit, own: InstanceStore, end: End) -> None:
    """The last act under the lock: a host that is still in the rollout has its lease renewed, one that is not has none.

    A commit ends the lease even where old connections still drain: the operator has decided.
    """
    record = own.record
    if record is None or record.rollout != visit.request.rollout:
        return
    is_open = record.state is State.BEGUN and classify(visit.observer.look(), record.target) is not Phase.OLD
    committed = visit.request.ask is Ask.COMMIT and end.outcome is Outcome.DONE
    with suppress(OSError):
        if is_open and not committed and visit.request.ask in (Ask.UPGRADE, Ask.BAKE):
            lease.renew(own, visit.request)
        elif not is_open or committed:
            lease.end(own)
        if not is_open:
            own.remove(CLAIM)


def _claimed(visit: Visit, own: InstanceStore, held: ExitStack) -> Optional[int]:
    """The instance is ours, and locked as long as `held`; the epoch, or `None` when nobody could take it from us.

    A full disk keeps an upgrade out, but never a way back, nor a look: then the fence is not written, and that is said.
    """
    request = visit.request
    epoch: Optional[int] = None
    try:
        epoch = claim(own, request)
    except OSError as error:
        if request.ask not in (Ask.ROLLBACK, Ask.BAKE):
            raise
        message = "the host can't be kept from others: %s" % error
        visit.find(Finding("not_fenced", Severity.WARNING, message, "Free space in %s." % own.folder))
    if request.ask is not Ask.BAKE:
        _hold_lock(own, request, held)
    return epoch


def _hold_lock(own: InstanceStore, request: Request, held: ExitStack) -> None:
    """The instance's lock is held. A way back goes on without one whose file can't even be opened (a full disk)."""
    try:
        held.enter_context(own.lock(ROLLBACK_WAIT_S if request.take_over else LOCK_WAIT_S))
    except OSError:
        if not request.take_over:
            raise


# Acting


def _guarded(visit: Visit, own: InstanceStore, epoch: Optional[int]) -> End:
    """With the host claimed and, but for a bake, locked."""
    seen = visit.observer.look()
    record, request = own.record, visit.request
    if request.ask is Ask.ROLLBACK:
        return _rollback(visit, own, epoch, record, seen)
    if request.ask is Ask.UPGRADE:
        return _upgrade(visit, own, epoch, record, seen)
    if record is None or record.rollout != request.rollout:
        return End(Outcome.REFUSED, "other_rollout", _other(record), "Name the rollout that this host is in.")
    behind = went_back(request, record, classify(seen, record.target))
    if behind is not None:
        return behind
    site = _site(visit, own, record, epoch, record.target)
    if request.ask is Ask.BAKE:
        return bake(site, seen)
    return _walk(visit, site, Goal(record.target, Rest.FINAL))


def _other(record: Optional[Record]) -> str:
    if record is None:
        return "this host keeps no record of a rollout"
    return "this host is in rollout %s by %s (%s)" % (record.rollout, record.operator, record.at)


def _upgrade(
    visit: Visit, own: InstanceStore, epoch: Optional[int], record: Optional[Record], seen: Observation
) -> End:
    request = visit.request
    assert request.goal is not None
    target = request.goal.target
    phase = classify(seen, target)
    ours = record is not None and record.rollout == request.rollout
    if ours and record is not None and record.state is State.ROLLED_BACK and request.reopen:
        ours = False
    else:
        behind = went_back(request, record, phase)
        if behind is not None:
            return behind
    if not ours:
        if phase is Phase.NEW:
            return End(Outcome.DONE, "runs_it", "this host runs the release already")
        if record is not None and record.state is State.BEGUN and classify(seen, record.target) in IN_BETWEEN:
            if record.target != target:
                remedy = "fleet commit %s, or fleet rollback %s" % (record.rollout, record.rollout)
                return End(Outcome.REFUSED, "upgrade_in_progress", _other(record), remedy)
            record = _adopt(visit, own, record)
            ours = True
    if not ours or record is None:
        changed = _may_still(visit, seen, phase, record)
        if changed.outcome is not Outcome.DONE:
            return changed
        record = _begin(visit, own, record, seen, target)
    try:
        _arm(own, request)
    except lease.Unwatched as error:
        remedy = "See why a process can't be started there, or go without: --lease off."
        return End(Outcome.REFUSED, "lease_unwatched", "no watcher for the lease could be started: %s" % error, remedy)
    return _walk(visit, _site(visit, own, record, epoch, target), request.goal)


def _arm(own: InstanceStore, request: Request) -> None:
    """The lease runs and is watched before anything is changed. Raises `lease.Unwatched`, OSError."""
    lease.renew(own, request)
    if request.lease_s > 0.0:
        lease.ensure_watched(own)


def go_back_by_lease(machine: Machine, own: InstanceStore, found: lease.Lease) -> End:
    """The host is OLD again, because its lease ran out; its lock is held. What was done is in the host's journal."""
    layout = own.layout or Layout()
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
    end = _rollback(visit, own, None, own.record, visit.observer.look())
    with suppress(OSError):
        own.note(lease="ended", outcome=end.outcome.value, reason=end.reason, message=end.message)
    _settle(visit, own, end)
    return end


def _adopt(visit: Visit, own: InstanceStore, record: Record) -> Record:
    """A host that another rollout to the same release left half-way or held goes on as ours; its way back stays."""
    request = visit.request
    mine = record._replace(
        rollout=request.rollout, epoch=request.epoch, operator=request.operator, at=visit.machine.utc()
    )
    own.write_record(mine)
    return mine


def _may_still(visit: Visit, seen: Observation, phase: Phase, record: Optional[Record]) -> End:
    """Preflight once more: batches and bakes ago the host was fit, and may have been changed since.

    A host that somebody has brought half-way by hand is past most of what preflight asks.
    """
    if not seen.masters or seen.masters[0].sha256 is None:
        return End(Outcome.REFUSED, "no_master", "no nginx master was found here", "Start nginx first.")
    if phase is Phase.FOREIGN:
        return End(Outcome.REFUSED, "foreign", "somebody else has been at work on this nginx", "A person must look.")
    if phase not in (Phase.OLD, Phase.SWAPPED):
        return End(Outcome.DONE)
    goal = visit.request.goal
    assert goal is not None
    staged = visit.store.release(goal.target)
    return judged(visit, preflight.preflight(visit.machine, visit.request, seen, staged, record, serving_of(visit)))


def _begin(visit: Visit, own: InstanceStore, last: Optional[Record], seen: Observation, target: str) -> Record:
    """What is wanted here is written down before the first change, and the way back lies ready on the host."""
    old = seen.masters[0]
    assert old.sha256 is not None
    visit.store.keep("/proc/%d/exe" % old.pid, old.sha256)
    at_path = seen.path_sha256 if len(seen.masters) == 1 and seen.path_sha256 else old.sha256
    request = visit.request
    record = Record(
        request.rollout,
        request.epoch,
        request.operator,
        target,
        before_process=old.sha256,
        before_file=at_path,
        at=visit.machine.utc(),
        poisoned=last.poisoned if last else None,
        allow=request.options.allow,
    )
    own.write_layout(visit.observer.layout._replace(binary=seen.path))
    write_undo(visit.machine, visit.store.root)
    own.begin(record)
    return record


def write_undo(machine: Machine, root: str) -> None:
    """`<state_dir>/undo`: the way back for an operator who has a console and no laptop."""
    words = [sys.executable, "-I", "-B", os.path.realpath(sys.argv[0]), "undo", root]
    text = '#!/bin/sh\n# Takes nginx back to what ran before the last rollout: undo [INSTANCE]\nexec %s "$@"\n'
    machine.write(root + "/undo", text % " ".join(quote(word) for word in words), mode=0o700)


def _rollback(
    visit: Visit, own: InstanceStore, epoch: Optional[int], record: Optional[Record], seen: Observation
) -> End:
    if record is None and len(seen.masters) > 1:
        message = "two masters run here, and fleet has no record of them"
        return End(Outcome.REFUSED, "foreign", message, "A person must look.")
    if record is None:
        return End(Outcome.DONE, "nothing_to_undo", "this host was not changed by the rollout")
    record = _in_force(visit, own, record, seen)
    if record.rollout != visit.request.rollout:
        return End(Outcome.DONE, "other_rollout", _other(record))
    runs = {master.sha256 for master in seen.masters}
    if runs and not runs & {record.target, record.before_process}:
        return End(Outcome.REFUSED, "foreign", "this host has since been given another release", "A person must look.")
    site = _site(visit, own, record, epoch, record.before_process)
    if not seen.masters and seen.path_sha256 == record.target:
        restore(site, seen)  # so that whoever starts nginx again does not start the bad release
    return _walk(visit, site, Goal(record.before_process, Rest.FINAL))


def _in_force(visit: Visit, own: InstanceStore, record: Record, seen: Observation) -> Record:
    """The record to undo: the one before, where that is the rollout meant and the last one has been taken back."""
    before = own.previous
    is_back = len(seen.masters) == 1 and classify(seen, record.target) is Phase.OLD
    if before is None or before.rollout != visit.request.rollout or record.rollout == before.rollout or not is_back:
        return record
    own.write_record(before)
    return before


def _walk(visit: Visit, site: Site, goal: Goal) -> End:
    request = visit.request
    what = "%s to %s, rollout %s, by %s" % (request.ask.value, goal.target[:12], request.rollout, request.operator)
    visit.machine.syslog(what + ": begun")
    end = act(site, visit.say, request, goal)
    visit.machine.syslog("%s: %s %s" % (what, end.outcome.value, end.message))
    return end


def _site(visit: Visit, own: InstanceStore, record: Record, epoch: Optional[int], target: str) -> Site:
    return Site(
        machine=visit.machine,
        observer=visit.observer,
        store=visit.store,
        own=own,
        layout=visit.observer.layout,
        options=visit.request.options,
        record=record,
        target=target,
        say=visit.find,
        go_on=visit.go_on if epoch is None else fenced(own, visit.request.rollout, epoch, visit.go_on),
    )
