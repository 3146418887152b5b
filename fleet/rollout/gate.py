"""A gate stands between two batches: one verdict on the hosts that were watched during the bake.

`judge` gives the verdict of one look at one host. `rollout.upgrade` combines the hosts' verdicts into the gate's and decides
what follows, by the policy and the budget.
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
