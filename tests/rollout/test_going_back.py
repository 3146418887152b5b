"""Going back: which host is asked when, and that a host which does not answer holds up no other one."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.onhost.protocol import Ask, Phase, Step
from fleet.rollout.actions import BeginVisit
from fleet.rollout.going_back import SILENT_AFTER, most_visits, rollback_visits
from fleet.rollout.host_status import HostStatus, Progress, RunningVisit, UnresolvedVisit
from fleet.rollout.rollout_status import RolloutStatus, Stage
from tests.support.pretend.visits import AT, a_fleet

REPORT = next(iter(a_fleet(1).hosts.values())).report()
LATE = AT + SILENT_AFTER


def begun(name: str, phase: Phase | None) -> HostStatus:
    report = None if phase is None else REPORT._replace(phase=phase, held=phase is Phase.TRIAL)
    return HostStatus(name, 1, Progress.BEGUN, report=report)


def asked(*hosts: HostStatus, parallel: int = 50) -> list[tuple[str, Ask]]:
    """The visits that begin a while later, in order."""
    status = RolloutStatus("r1", {host.name: host for host in hosts}, stage=Stage.ROLLING_BACK)
    actions = rollback_visits(lambda host: host in hosts, status, parallel, LATE)
    return [(action.host, action.ask) for action in actions if isinstance(action, BeginVisit)]


def test_hosts_whose_users_meet_the_bad_release_go_first_then_the_committed_ones_then_the_rest() -> None:
    hosts = [
        HostStatus("not-begun", 1, Progress.STAGED),
        begun("unknown", None),
        begun("old", Phase.OLD),
        begun("committed", Phase.NEW),
        begun("overlap", Phase.OVERLAP),
        begun("held", Phase.TRIAL),
    ]

    order = ["overlap", "held", "committed", "unknown", "old", "not-begun"]
    assert asked(*hosts) == [(name, Ask.ROLLBACK) for name in order]
    assert asked(*hosts, parallel=2) == [(name, Ask.ROLLBACK) for name in order[:2]]


def test_a_host_that_did_not_answer_is_tried_again_after_the_others() -> None:
    silent = replace(begun("silent", Phase.TRIAL), unresolved=UnresolvedVisit(Ask.ROLLBACK, AT, AT))

    assert asked(silent, begun("unknown", None)) == [("unknown", Ask.ROLLBACK), ("silent", Ask.LOOK)]


@pytest.mark.parametrize(("step", "others"), [(None, ["web-03", "web-04"]), (Step.REVIVE, [])])
def test_a_visit_that_does_not_reach_its_host_takes_no_others_place(step: Step | None, others: list[str]) -> None:
    running = [
        replace(begun(name, None), running=RunningVisit(Ask.ROLLBACK, AT, step)) for name in ("web-01", "web-02")
    ]
    idle = [begun(name, None) for name in ("web-03", "web-04", "web-05")]

    assert asked(*running, *idle, parallel=2) == [(name, Ask.ROLLBACK) for name in others]


def test_a_visit_that_has_just_begun_takes_its_place() -> None:
    just_now = RunningVisit(Ask.ROLLBACK, LATE - SILENT_AFTER + timedelta(milliseconds=1))

    assert asked(replace(begun("web-01", None), running=just_now), begun("web-02", None), parallel=1) == []


def test_however_many_hosts_are_down_the_visits_have_a_limit() -> None:
    down = [replace(begun(f"down-{n}", None), running=RunningVisit(Ask.ROLLBACK, AT)) for n in range(4)]

    assert most_visits(2) == 4
    assert asked(*down, begun("web-01", None), parallel=2) == []
