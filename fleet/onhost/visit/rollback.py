"""A rollback: the host runs what it ran before the rollout that the request names."""

from typing import Optional

from fleet.onhost.observation import Observation
from fleet.onhost.procedure import classify
from fleet.onhost.protocol import Goal, Outcome, Phase, Record, Rest, Severity, Step
from fleet.onhost.steps.back import restore
from fleet.onhost.steps.context import StepContext, StepError
from fleet.onhost.visit.end import End, end_of, ended, in_other_rollout
from fleet.onhost.visit.request import Visit
from fleet.onhost.visit.say_committed import say_committed
from fleet.onhost.visit.walk import walk


def rollback(visit: Visit, record: Optional[Record], seen: Observation) -> End:
    """Take the host back. Its lock is held, unless a full disk kept the lock file from being opened."""
    if record is None and len(seen.masters) > 1:
        return ended(Outcome.REFUSED, "foreign", why="two run here, and fleet has no record of a rollout")
    if record is None:
        return ended(Outcome.DONE, "nothing_to_undo")
    record = _in_force(visit, record, seen)
    if record.rollout != visit.request.rollout:
        return in_other_rollout(Outcome.DONE, record)
    runs = {master.sha256 for master in seen.masters}
    if runs and not runs & {record.target, record.before_process}:
        return ended(Outcome.REFUSED, "foreign", why="the host has been given another release since")
    say_committed(visit, record, seen)
    context = visit.context(record, record.before_process)
    if [master.sha256 for master in seen.masters] == [record.target] and context.must_leave(seen):
        return ended(Outcome.REFUSED, "path_changed", path=seen.path, file=context.file_words(seen))
    if not seen.masters and seen.path_sha256 == record.target:
        _restore_for_the_next_start(visit, context, seen)
    return walk(visit, record, Goal(record.before_process, Rest.FINAL))


def _restore_for_the_next_start(visit: Visit, context: StepContext, seen: Observation) -> None:
    """Put the old file back, so that no later start of nginx runs the release that is taken back. Warn if that fails."""

    def act() -> End:
        try:
            restore(context, seen)
        except StepError as error:
            context.say(error.finding._replace(severity=Severity.WARNING))
            return end_of(Outcome.FAILED, error.finding)
        return End(Outcome.DONE)

    visit._replace(say=lambda reply: None).take(
        Step.RESTORE, act
    )  # Not a step of the walk: only the journal records it.


def _in_force(visit: Visit, record: Record, seen: Observation) -> Record:
    """The record to undo: the previous one, if the request means its rollout and the last one has been taken back."""
    own = visit.instance.own
    before = own.previous
    is_back = len(seen.masters) == 1 and classify(seen, record.target) is Phase.OLD
    if before is None or before.rollout != visit.request.rollout or record.rollout == before.rollout or not is_back:
        return record
    own.write_record(before)
    return before
