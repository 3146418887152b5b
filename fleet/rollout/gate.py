"""A gate stands between two batches: what the hosts said while they were watched, as one verdict.

Pure: a look at a host becomes a `Verdict`, and the worst verdict of the hosts is the gate's. What follows from it (go
on, halt, go back) is decided in `rollout.upgrade`, by the operator's policy and the budget.
"""

from enum import Enum

from fleet.onhost.protocol import Outcome, Report


class Verdict(Enum):
    """A gate's answer, from best to worst."""

    PASSED = "passed"
    ERROR = "error"
    FAILED = "failed"


def judge(outcome: Outcome | None, report: Report | None) -> Verdict:
    """The verdict of one look at one host. A host that could not be asked is an `ERROR`, never a failure nor a pass."""
    if outcome is Outcome.FAILED:
        return Verdict.FAILED
    return Verdict.PASSED if outcome is Outcome.DONE and report is not None else Verdict.ERROR
