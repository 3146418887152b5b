"""The plan as text: every choice of the operator that changes what happens is in it."""

import pytest

from fleet.host import Host
from fleet.plan import make_plan
from fleet.rollout.policy import CommitWhen, OnFailure, Policy, Rehearse
from fleet.runs.plan_text import plan_text
from tests.support.pretend.visits import names


def text_of(policy: Policy, max_failures: str = "0", batches: str = "1,100%", count: int = 3) -> str:
    plan = make_plan([Host(name, f"{name}.example") for name in names(count)], batches)
    return plan_text(plan, policy, max_failures, "nginx 1.26.3", "20261123-1012-k7qd", "alice@desk")


def test_the_first_batch_is_the_canary_if_there_are_others() -> None:
    first, second, third = names(3)

    assert f"  1. {first}  (canary)\n  2. {second}, {third}\n" in text_of(Policy())
    assert "canary" not in text_of(Policy(), batches="100%")


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (OnFailure.ROLLBACK, "every host that was begun is then rolled back, committed or not."),
        (OnFailure.HALT, "no further host is started, and the others stay as they are until their lease expires."),
        (OnFailure.CONTINUE, "Failures: the rollout continues to the last host, whatever fails."),
    ],
)
def test_the_plan_says_what_happens_when_too_many_hosts_fail(action: OnFailure, said: str) -> None:
    assert said in text_of(Policy(on_failure=action))


def test_where_every_host_may_fail_no_consequence_is_promised() -> None:
    assert "goes back" not in text_of(Policy(max_failures=3), max_failures="3")


@pytest.mark.parametrize("when", CommitWhen)
def test_the_plan_says_when_it_commits(when: CommitWhen) -> None:
    said = {
        "end": "every batch has passed",
        "batch": "after its bake",
        "never": "until you run fleet commit",
        "when-drained": "each host retires its own, once its old connections have ended",
    }

    assert said[when.value] in text_of(Policy(commit=when))


def test_the_plan_says_whether_the_upgrade_is_rehearsed() -> None:
    assert "the release is staged, checked and rehearsed on every host first." in text_of(Policy())
    assert "checked, but not rehearsed (--rehearse off), on every host first." in text_of(Policy(rehearse=Rehearse.OFF))


def test_the_plan_says_when_held_hosts_are_not_guarded() -> None:
    assert "Not guarded (--no-guard)" in text_of(Policy(guard=False))
    assert "guarded" not in text_of(Policy())


def test_the_plan_says_when_the_package_is_held() -> None:
    assert "Package: each host's package of nginx is held" in text_of(Policy(hold_package=True))
    assert "Package" not in text_of(Policy())


def test_the_plan_says_whether_there_is_a_lease() -> None:
    assert "neither visits nor commits it for 1m30s." in text_of(Policy(lease_s=90.0))
    assert "No lease: " in text_of(Policy(lease_s=0.0))


def test_allowed_risks_are_named() -> None:
    assert "Allowed, and recorded: quic, poisoned." in text_of(Policy(allow=("quic", "poisoned")))
