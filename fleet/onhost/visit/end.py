"""How a visit, or a step of it, ended: the outcome, and the finding that says why."""

import sys
from typing import NamedTuple, Optional

from fleet.onhost.protocol import Finding, Outcome, Phase, Record, Reply, ReplyType, Report, Step
from fleet.onhost.system.process import Gone
from fleet.onhost.views import RehearsalSummary
from fleet.onhost.wire import Malformed


class End(NamedTuple):
    """How a visit ended. A visit that ended as asked has no reason. `rehearsal` is that of its preflight."""

    outcome: Outcome
    reason: Optional[str] = None
    message: str = ""
    remedy: str = ""
    rehearsal: Optional[RehearsalSummary] = None

    def outcome_reply(self, report: Optional[Report]) -> Reply:
        """The last reply of the visit."""
        return Reply(
            ReplyType.OUTCOME,
            outcome=self.outcome,
            reason=self.reason,
            message=self.message,
            remedy=self.remedy,
            report=report,
        )

    def step_reply(self, step: Step, took_s: float) -> Reply:
        """The reply that this step has ended."""
        return Reply(
            ReplyType.STEP_ENDED,
            step=step,
            outcome=self.outcome,
            reason=self.reason,
            message=self.message,
            remedy=self.remedy,
            took_s=took_s,
        )


def end_of(outcome: Outcome, found: Finding) -> End:
    """The end for which this finding is the reason."""
    return End(outcome, found.reason, found.message, found.remedy)


def ended(outcome: Outcome, word: str, **facts: object) -> End:
    """The end for which the reason has this word and these facts."""
    from fleet.onhost.reasons.catalogue import finding

    return end_of(outcome, finding(word, **facts))


def ended_by(error: Exception) -> End:
    """The end that this exception means. An exception that no step should raise is a bug: its trace goes to stderr."""
    import traceback

    from fleet.onhost.steps.context import StepError

    if isinstance(error, StepError):
        return end_of(error.outcome, error.finding)
    if isinstance(error, (OSError, Malformed)):
        return ended(Outcome.FAILED, "host_io", error=error)
    if isinstance(error, Gone):
        return ended(Outcome.FAILED, "process_gone", error=error)
    sys.stderr.write(traceback.format_exc())
    return ended(Outcome.FAILED, "bug", error="%s: %s" % (type(error).__name__, error))


def went_back(phase: Phase, cause: str, folder: str) -> End:
    """The end of a visit to a host that is behind where the last visit left it; `folder` has its journal."""
    journal = folder + "/journal.jsonl"
    return ended(Outcome.FAILED, "went_back", phase=phase.value, cause=cause, journal=journal)


def failed_to_go_back(serving: str, worse: End, first: End) -> End:
    """The end of a visit that failed with `first` and then could not take the host back; `serving` is what serves now."""
    return ended(
        Outcome.FAILED,
        "failed_to_go_back",
        serving=serving,
        worse=worse.message,
        first=first.message,
        remedy=worse.remedy,
    )


def in_other_rollout(outcome: Outcome, record: Optional[Record]) -> End:
    """The end of a visit to a host that is not in the rollout of the request."""
    whose = "it has no record of a rollout"
    if record is not None:
        whose = "its record names rollout %s by %s (%s)" % (record.rollout, record.operator, record.at)
    return ended(outcome, "other_rollout", whose=whose)
