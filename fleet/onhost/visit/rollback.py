"""The way back of a host that is ours: to what it ran before the rollout that is undone."""

from typing import Optional

from fleet.onhost.procedure import classify
from fleet.onhost.protocol import Finding, Goal, Observation, Outcome, Phase, Record, Rest, Severity, Step
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.steps.back import restore
from fleet.onhost.steps.context import Site, StepRefused
from fleet.onhost.visit.drive import site_of, walk, whose
from fleet.onhost.visit.request import Visit
from fleet.onhost.visit.walk import End, ended


def rollback(
    visit: Visit, own: InstanceStore, epoch: Optional[int], record: Optional[Record], seen: Observation
) -> End:
    """The host runs what it ran before the rollout that the request names; with the host locked, if that could be had."""
    if record is None and len(seen.masters) > 1:
        return ended(Outcome.REFUSED, "foreign", who="two run here, and fleet has no record of them")
    if record is None:
        return ended(Outcome.DONE, "nothing_to_undo")
    record = _in_force(visit, own, record, seen)
    if record.rollout != visit.request.rollout:
        return ended(Outcome.DONE, "other_rollout", whose=whose(record))
    runs = {master.sha256 for master in seen.masters}
    if runs and not runs & {record.target, record.before_process}:
        return ended(Outcome.REFUSED, "foreign", who="this host has since been given another release")
    site = site_of(visit, own, record, epoch, record.before_process)
    if not seen.masters and seen.path_sha256 == record.target:
        _restore_for_the_next_start(site, seen)
    return walk(visit, site, Goal(record.before_process, Rest.FINAL))


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
