"""Verdicts: what one look at one host means."""

import pytest

from fleet.onhost.protocol import Outcome, Report
from fleet.rollout.host_status import Verdict
from fleet.rollout.transitions.host_transitions import judge
from tests.support.pretend.visits import Pretend

A_REPORT = Pretend("web-01").report()


@pytest.mark.parametrize(
    ("outcome", "report", "verdict"),
    [
        (Outcome.DONE, A_REPORT, Verdict.PASSED),
        (Outcome.DONE, None, Verdict.ERROR),
        (Outcome.FAILED, A_REPORT, Verdict.FAILED),
        (Outcome.REFUSED, A_REPORT, Verdict.ERROR),
        (Outcome.LINK_LOST, None, Verdict.ERROR),
        (Outcome.UNREACHABLE, None, Verdict.ERROR),
        (None, None, Verdict.ERROR),
    ],
)
def test_a_look_without_an_answer_is_an_error_and_neither_a_pass_nor_a_failure(
    outcome: Outcome | None, report: Report | None, verdict: Verdict
) -> None:
    assert judge(outcome, report) is verdict
