"""What one event and the decision after it cost does not grow with the number of hosts: function calls are counted."""

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from types import FrameType

import pytest

from fleet.events import Event, EventType
from fleet.onhost.protocol import Ask, Outcome, Phase, Report
from fleet.rollout.actions import Action, BeginVisit
from fleet.rollout.commit import decide_commit
from fleet.rollout.host_status import HostStatus, Progress
from fleet.rollout.policy import Policy
from fleet.rollout.rollback import decide_rollback
from fleet.rollout.rollout_status import RolloutStatus, Stage, fold
from fleet.rollout.single_visit import decide_single_visit
from fleet.rollout.upgrade import decide
from tests.support.pretend.visits import AT, a_fleet

FEW, MANY = 500, 8000
PARALLEL = 20
POLICY = Policy(parallel=PARALLEL, bake_s=600.0, max_failures=10**6)
OLD = next(iter(a_fleet(1).hosts.values())).report()
HELD = OLD._replace(phase=Phase.TRIAL, held=True, lease_left_s=300.0)
Decide = Callable[[RolloutStatus, datetime], tuple[Action, ...]]


def calls_of(act: Callable[[], object]) -> int:
    """How many Python functions are called, comprehensions and the resumptions of generators among them."""
    count = 0

    def counting(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(counting)
    try:
        act()
    finally:
        sys.setprofile(before)
    return count


def event(kind: EventType, host: str, ask: Ask, at: datetime, report: Report | None = None) -> Event:
    outcome = Outcome.DONE if kind is EventType.VISIT_ENDED else None
    return Event(at, "r1", kind, host, 1, outcome=outcome, report=report, data={"ask": ask.value})


def status(count: int, stage: Stage, progress: Progress, report: Report | None) -> RolloutStatus:
    names = [f"web-{number:05}" for number in range(count)]
    hosts = {name: HostStatus(name, 1, progress, report=report, first_report=report) for name in names}
    return RolloutStatus(
        "r1", hosts, (tuple(names),), stage, batch=1, started_at=AT, closed_at=AT, committed_batch=1, committing_at=AT
    )


def calls_per_visit(deciding: Decide, start: RolloutStatus, ended: Report) -> int:
    """The calls for the end of one visit, the next decision, and the starts that it asks for, after the first visits."""
    now, held = AT, start

    def begin(found: RolloutStatus) -> RolloutStatus:
        for action in deciding(found, now):
            if isinstance(action, BeginVisit):
                found = fold(found, event(EventType.VISIT_STARTED, action.host, action.ask, now))
        return found

    held = begin(held)
    assert held.busy == PARALLEL
    worst = 0
    for _ in range(5):
        now += timedelta(milliseconds=1)
        host = next(each for each in held.all if each.running)
        assert host.running is not None
        end = event(EventType.VISIT_ENDED, host.name, host.running.ask, now, ended)
        made: list[RolloutStatus] = []
        worst = max(worst, calls_of(lambda held=held, end=end, made=made: made.append(begin(fold(held, end)))))  # type: ignore[misc]
        held = made[0]
        assert held.busy == PARALLEL
    return worst


CASES = {
    "stage": (partial(decide, POLICY), Stage.STAGING, Progress.WAITING, None, OLD),
    "upgrade": (partial(decide, POLICY), Stage.UPGRADING, Progress.STAGED, OLD, HELD),
    "bake": (partial(decide, POLICY), Stage.BAKING, Progress.UPGRADED, HELD, HELD),
    "commit": (partial(decide, POLICY), Stage.COMMITTING, Progress.UPGRADED, HELD, OLD._replace(phase=Phase.NEW)),
    "roll back": (partial(decide, POLICY), Stage.ROLLING_BACK, Progress.BEGUN, HELD, OLD),
    "fleet rollback": (partial(decide_rollback, PARALLEL), Stage.ROLLING_BACK, Progress.BEGUN, None, OLD),
    "fleet commit": (partial(decide_commit, POLICY), Stage.COMMITTING, Progress.UPGRADED, HELD, OLD),
    "fleet status": (partial(decide_single_visit, Ask.LOOK, PARALLEL), Stage.STAGING, Progress.WAITING, None, OLD),
}


@pytest.mark.parametrize("case", CASES)
def test_the_cost_of_a_visit_does_not_grow_with_the_number_of_hosts(case: str) -> None:
    deciding, stage, progress, report, ended = CASES[case]

    few, many = (calls_per_visit(deciding, status(count, stage, progress, report), ended) for count in (FEW, MANY))

    assert many <= 1.5 * few, f"{few} calls for {FEW} hosts, {many} for {MANY}"


@pytest.mark.parametrize("lease_s", [0.0, 900.0])
def test_nor_while_a_batch_is_upgraded_and_upgraded_hosts_wait(lease_s: float) -> None:
    def waiting(count: int) -> RolloutStatus:
        found = status(count, Stage.UPGRADING, Progress.UPGRADED, HELD)
        for number in range(0, count, 2):
            name = f"web-{number:05}"
            found = replace(found, hosts=found.host_map.having(HostStatus(name, 1, Progress.STAGED, report=OLD)))
        return found

    deciding = partial(decide, replace(POLICY, lease_s=lease_s))
    few, many = (calls_per_visit(deciding, waiting(count), HELD) for count in (FEW, MANY))

    assert many <= 1.5 * few, f"{few} calls for {FEW} hosts, {many} for {MANY}"
