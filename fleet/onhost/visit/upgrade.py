"""An upgrade of a host that is ours: what is wanted is written down, the way back lies ready, and off it goes."""

import os
import sys
from shlex import quote
from typing import Optional

from fleet.onhost.preflight import checks
from fleet.onhost.preflight.master import in_progress
from fleet.onhost.procedure import classify
from fleet.onhost.protocol import Observation, Outcome, Phase, Record, State
from fleet.onhost.state import lease
from fleet.onhost.state.fence import may_reopen
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.system.machine import Machine
from fleet.onhost.visit.drive import site_of, walk
from fleet.onhost.visit.request import Visit
from fleet.onhost.visit.staging import judged, serving_of
from fleet.onhost.visit.walk import End, ended, went_back

IN_BETWEEN = (Phase.SWAPPED, Phase.OVERLAP, Phase.TRIAL, Phase.RETIRING, Phase.DISMISSING, Phase.STRANDED)


def upgrade(visit: Visit, own: InstanceStore, epoch: Optional[int], record: Optional[Record], seen: Observation) -> End:
    """The host has the release that is asked for, or is as it was; with the host claimed and locked."""
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
        lease.arm(own, request)
    except lease.Unwatched as error:
        return ended(Outcome.REFUSED, "lease_unwatched", error=error)
    return walk(visit, site_of(visit, own, record, epoch, target), request.goal)


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
    return judged(visit, checks.preflight(visit.machine, visit.request, seen, staged, record, serving_of(visit)))


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
    _write_undo(visit.machine, visit.store.root)
    own.begin(record)
    return record


def _write_undo(machine: Machine, root: str) -> None:
    """`<state_dir>/undo`: the way back for an operator who has a console and no laptop."""
    words = [sys.executable, "-I", "-B", os.path.realpath(sys.argv[0]), "undo", root]
    text = '#!/bin/sh\n# Takes nginx back to what ran before the last rollout: undo [INSTANCE]\nexec %s "$@"\n'
    machine.write(root + "/undo", text % " ".join(quote(word) for word in words), mode=0o700)
