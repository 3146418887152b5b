"""A request, answered: find the instance, guard it, and do what the request asks for."""

import os
import sys
import traceback
from contextlib import ExitStack, suppress
from shlex import quote
from typing import Callable, Optional, Tuple

from fleet.onhost import lease, preflight
from fleet.onhost.asked import Say, Visit
from fleet.onhost.back import restore
from fleet.onhost.control import fenced
from fleet.onhost.fence import CLAIM, Claimed, TakenOver, check, claim, disclaim, may_reopen, refuse_claimed, release
from fleet.onhost.locate import locate
from fleet.onhost.lock import Busy
from fleet.onhost.machine import Machine
from fleet.onhost.obedience import in_progress
from fleet.onhost.observe import Observer
from fleet.onhost.procedure import classify
from fleet.onhost.protocol import (
    MAY_DO,
    PROTOCOL,
    Ask,
    Finding,
    Goal,
    Observation,
    Outcome,
    Phase,
    Record,
    Report,
    Request,
    Rest,
    Severity,
    State,
    Step,
)
from fleet.onhost.reasons import finding
from fleet.onhost.record import InstanceStore, Store
from fleet.onhost.report import report
from fleet.onhost.site import Site, StepRefused
from fleet.onhost.staging import answer_stage, judged, serving_of
from fleet.onhost.verify import judge_afresh
from fleet.onhost.visit import End, act, bake, ended, went_back
from fleet.onhost.wire import Malformed

LOCK_WAIT_S = 10.0
ROLLBACK_WAIT_S = 60.0
IN_BETWEEN = (Phase.SWAPPED, Phase.OVERLAP, Phase.TRIAL, Phase.RETIRING, Phase.DISMISSING, Phase.STRANDED)


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
                return ended(Outcome.DONE, "other_rollout", whose=_other(own.record))
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
            judge_afresh(_site(visit, own, record, None, record.target), visit.observer.look())


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
            _arm(own, visit.request)
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
        return ended(Outcome.REFUSED, "other_rollout", whose=_other(record))
    behind = went_back(request, record, classify(seen, record.target), own.folder)
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
    if request.reopen and may_reopen(record, request.rollout):
        ours = False
    else:
        behind = went_back(request, record, phase, own.folder)
        if behind is not None:
            return behind
    if not ours:
        if phase is Phase.NEW:
            return ended(Outcome.DONE, "runs_it")
        if record is not None and record.state is State.BEGUN and classify(seen, record.target) in IN_BETWEEN:
            if record.target != target:
                found = in_progress(record)
                return End(Outcome.REFUSED, found.reason, found.message, found.remedy)
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
        return ended(Outcome.REFUSED, "lease_unwatched", error=error)
    return _walk(visit, _site(visit, own, record, epoch, target), request.goal)


def _arm(own: InstanceStore, request: Request) -> None:
    """The lease runs and is watched before anything is changed. Raises `lease.Unwatched`, OSError."""
    lease.renew(own, request)
    if request.lease_s > 0.0:
        lease.ensure_watched(own)


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
    end = _rollback(visit, own, None, record, visit.observer.look())
    with suppress(OSError):
        if end.outcome is not Outcome.DONE:
            own.write_record(record._replace(why="its lease ran out, and it could not go back: %s" % end.message))
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
        return ended(Outcome.REFUSED, "no_master", named="")
    if phase is Phase.FOREIGN:
        return ended(Outcome.REFUSED, "foreign", who="somebody else has been at work on this nginx")
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
        return ended(Outcome.REFUSED, "foreign", who="two run here, and fleet has no record of them")
    if record is None:
        return ended(Outcome.DONE, "nothing_to_undo")
    record = _in_force(visit, own, record, seen)
    if record.rollout != visit.request.rollout:
        return ended(Outcome.DONE, "other_rollout", whose=_other(record))
    runs = {master.sha256 for master in seen.masters}
    if runs and not runs & {record.target, record.before_process}:
        return ended(Outcome.REFUSED, "foreign", who="this host has since been given another release")
    site = _site(visit, own, record, epoch, record.before_process)
    if not seen.masters and seen.path_sha256 == record.target:
        _restore_for_the_next_start(site, seen)
    return _walk(visit, site, Goal(record.before_process, Rest.FINAL))


def _restore_for_the_next_start(site: Site, seen: Observation) -> None:
    """Whoever starts nginx again does not start the release that is taken back. If that can't be had, it is said."""
    site.note(intent=Step.RESTORE.value, rollout=site.record.rollout)
    try:
        restore(site, seen)
    except StepRefused as error:
        site.note(result=Step.RESTORE.value, outcome=Outcome.FAILED.value, reason=error.reason, message=error.message)
        site.say(Finding(error.reason, Severity.WARNING, error.message, error.remedy))
        return
    site.note(result=Step.RESTORE.value, outcome=Outcome.DONE.value)


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
