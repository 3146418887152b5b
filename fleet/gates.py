"""A gate stands between two batches: what the hosts said while they were watched, as one verdict.

Pure: a look at a host becomes a `Verdict`, and the worst verdict of the hosts is the gate's. What follows from it (go
on, halt, go back) is decided in `rollout.upgrade`, by the operator's policy and the budget.
"""

from collections.abc import Iterable
from enum import Enum

from fleet.onhost.protocol import Outcome, Report

INCONCLUSIVE = "inconclusive"
"""The reason by which a host says that it looked and could not tell."""


class Verdict(Enum):
    """A gate's answer, from best to worst."""

    PASSED = "passed"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    FAILED = "failed"


_FROM_BEST = tuple(Verdict)


def judge(outcome: Outcome | None, reason: str | None, report: Report | None) -> Verdict:
    """The verdict of one look at one host. A host that could not be asked is an `ERROR`, never a failure nor a pass."""
    if outcome is Outcome.FAILED:
        return Verdict.FAILED
    if outcome is not Outcome.DONE or report is None:
        return Verdict.ERROR
    if reason == INCONCLUSIVE:
        return Verdict.INCONCLUSIVE
    return Verdict.PASSED


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The gate's verdict: that of its worst host. Nobody to look at is an `ERROR`: nothing was measured."""
    return max(verdicts, key=_FROM_BEST.index, default=Verdict.ERROR)
