"""An upgrade: the host records the goal and the way back, and then walks to the release."""

import os
import sys
from shlex import quote
from typing import Optional

from fleet.onhost.observation import Observation
from fleet.onhost.preflight.master import in_progress
from fleet.onhost.procedure import IN_BETWEEN, classify
from fleet.onhost.protocol import Outcome, Phase, Record, Request, State
from fleet.onhost.state import watcher
from fleet.onhost.state.fence import may_reopen
from fleet.onhost.state.package_hold import NotDone, hold_package
from fleet.onhost.system.machine import Machine
from fleet.onhost.visit.end import End, end_of, ended
from fleet.onhost.visit.request import Visit
from fleet.onhost.visit.staging import preflighted
from fleet.onhost.visit.unit_care import guard_unit
from fleet.onhost.visit.walk import behind, walk


def upgrade(visit: Visit, record: Optional[Record], seen: Observation) -> End:
    """Bring the host to the release, or leave it as it was. The caller has claimed and locked the host."""
    request, own = visit.request, visit.instance.own
    assert request.goal is not None
    target = request.goal.target
    phase = classify(seen, target)
    ours = record is not None and record.rollout == request.rollout
    if request.reopen and may_reopen(record, request.rollout):
        ours = False
    else:
        end = behind(request, record, phase, own.folder)
        if end is not None:
            return end
    if not ours:
        if phase is Phase.NEW:
            return ended(Outcome.DONE, "runs_it")
        if record is not None and record.state is State.BEGUN and classify(seen, record.target) in IN_BETWEEN:
            if record.target != target:
                return end_of(Outcome.REFUSED, in_progress(record))
            record = _adopt(visit, record)
            ours = True
    checked = _may_begin(visit, seen, phase, is_new=not ours or record is None)
    if checked.outcome is not Outcome.DONE:
        return checked
    if not ours or record is None:
        record = _begin(visit, record, seen, target)
    record = _allow_more(visit, record)
    try:
        for found in watcher.arm(own, request):
            visit.find(found)
    except watcher.Unwatched as error:
        return ended(Outcome.REFUSED, "lease_unwatched", error=error)
    guard_unit(visit, record, seen)
    return walk(visit, record, request.goal)._replace(rehearsal=checked.rehearsal)


def _may_begin(visit: Visit, seen: Observation, phase: Phase, is_new: bool) -> End:
    """The last preflight of a rollout that is new here, and the package held. DONE where the first change may come."""
    checked = _may_still(visit, seen, phase) if is_new else End(Outcome.DONE)
    if checked.outcome is not Outcome.DONE:
        return checked
    return _package_held(visit, seen) or checked


def _package_held(visit: Visit, seen: Observation) -> Optional[End]:
    """Hold nginx's package, if the operator asked for it; the end of the visit where that fails.

    A refusal, because nothing is begun yet: the operator relies on the hold, and would not see a warning in time.
    """
    if not visit.request.options.hold_package:
        return None
    try:
        hold_package(visit.instance.own, seen.path)
    except NotDone as error:
        return ended(Outcome.REFUSED, "package_not_held", error=error, command=error.command)
    return None


def _adopt(visit: Visit, record: Record) -> Record:
    """Continue what another rollout to the same release left half-way or held. The way back stays the same."""
    request, instance = visit.request, visit.instance
    mine = record._replace(
        rollout=request.rollout, epoch=request.epoch, operator=request.operator, at=instance.machine.utc()
    )
    instance.own.write_record(mine)
    return mine


def _allow_more(visit: Visit, record: Record) -> Record:
    """The record with what a resume allows in addition, so that a commit judges the release's log lines alike."""
    allow = tuple(dict.fromkeys(record.allow + visit.request.options.allow))
    if allow == record.allow:
        return record
    record = record._replace(allow=allow)
    visit.instance.own.write_record(record)
    return record


def _may_still(visit: Visit, seen: Observation, phase: Phase) -> End:
    """Preflight once more: the host may have changed in the batches and bakes since the first one.

    A host that was brought half-way by hand is past most of what preflight checks.
    """
    if not seen.masters or seen.masters[0].sha256 is None:
        return ended(Outcome.REFUSED, "no_master", named="")
    if phase is Phase.FOREIGN:
        return ended(Outcome.REFUSED, "foreign", why="another tool or person has changed them")
    if phase not in (Phase.OLD, Phase.SWAPPED):
        return End(Outcome.DONE)
    request, instance = visit.request, visit.instance
    assert request.goal is not None
    staged = instance.store.release(request.goal.target)
    return preflighted(visit, visit.preflight(instance, request, seen, staged), seen)


def _begin(visit: Visit, last: Optional[Record], seen: Observation, target: str) -> Record:
    """Record the goal before the first change, and make the way back ready on the host."""
    instance = visit.instance
    record = new_record(visit.request, seen, target, instance.machine.utc())
    record = record._replace(poisoned=last.poisoned if last else None)
    instance.store.keep("/proc/%d/exe" % seen.masters[0].pid, record.before_process)
    instance.own.write_layout(instance.layout._replace(binary=seen.path))
    _write_undo(instance.machine, instance.store.root)
    instance.own.begin(record)
    return record


def new_record(request: Request, seen: Observation, target: str, at: str) -> Record:
    """The record of a rollout that begins on a host that looks like this. `at` is UTC in ISO 8601."""
    old = seen.masters[0]
    assert old.sha256 is not None
    return Record(
        request.rollout,
        request.epoch,
        request.operator,
        target,
        before_process=old.sha256,
        before_file=seen.path_sha256 if len(seen.masters) == 1 and seen.path_sha256 else old.sha256,
        at=at,
        allow=request.options.allow,
    )


def _write_undo(machine: Machine, root: str) -> None:
    """Write `<state_dir>/undo`: the way back for an operator with a console but no laptop."""
    words = [sys.executable, "-I", "-B", os.path.realpath(sys.argv[0]), "undo", root]
    text = '#!/bin/sh\n# Takes nginx back to what ran before the last rollout: undo [PID_FILE]\nexec %s "$@"\n'
    machine.write(root + "/undo", text % " ".join(quote(word) for word in words), mode=0o700)
