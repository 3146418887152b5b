"""Verdicts: one look at one host, and the worst of many."""

import pytest

from fleet.gates import Verdict, judge, worst
from fleet.onhost.protocol import Outcome, Report
from tests.pretend import Pretend

A_REPORT = Pretend("web-01").report()


@pytest.mark.parametrize(
    ("outcome", "reason", "report", "verdict"),
    [
        (Outcome.DONE, None, A_REPORT, Verdict.PASSED),
        (Outcome.DONE, "inconclusive", A_REPORT, Verdict.INCONCLUSIVE),
        (Outcome.DONE, None, None, Verdict.ERROR),
        (Outcome.FAILED, "went_back", A_REPORT, Verdict.FAILED),
        (Outcome.REFUSED, "other_rollout", A_REPORT, Verdict.ERROR),
        (Outcome.LINK_LOST, "link_lost", None, Verdict.ERROR),
        (Outcome.UNREACHABLE, "timeout", None, Verdict.ERROR),
        (None, None, None, Verdict.ERROR),
    ],
)
def test_what_could_not_be_measured_is_an_error_and_neither_a_pass_nor_a_failure(
    outcome: Outcome | None, reason: str | None, report: Report | None, verdict: Verdict
) -> None:
    assert judge(outcome, reason, report) is verdict


def test_the_worst_host_speaks_for_the_gate() -> None:
    assert worst([Verdict.PASSED, Verdict.FAILED, Verdict.ERROR]) is Verdict.FAILED
    assert worst([Verdict.PASSED, Verdict.INCONCLUSIVE]) is Verdict.INCONCLUSIVE
    assert worst([Verdict.PASSED, Verdict.PASSED]) is Verdict.PASSED


def test_a_gate_that_saw_nobody_has_not_passed() -> None:
    assert worst([]) is Verdict.ERROR
