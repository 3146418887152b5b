"""The engine: threads carry visits, one thread owns the state, and the operator can turn back."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from fleet.engine import Engine, Turned, Visits, steady_clock
from fleet.events import Event, EventType, Result, Sink
from fleet.onhost.protocol import Ask, Outcome, Phase
from fleet.rollout.policy import Policy
from fleet.rollout.status import RolloutStatus, Stage, fold
from fleet.rollout.upgrade import decide
from fleet.task import HostOutcome, HostTask
from tests.playing import a_play
from tests.pretend import LOST_AFTER, WENT_BACK, Fleet, a_fleet, fast_clock

QUICK = Policy(bake_s=0.0, parallel=4)


class Run:
    """One run of the engine over pretend hosts, and all that it told."""

    def __init__(self, fleet: Fleet, policy: Policy = QUICK) -> None:
        self.events: list[Event] = []
        self.fleet = fleet
        self.policy = policy
        self.game = a_play(fleet, policy)
        self.visit: Callable[[HostTask, Sink], HostOutcome] = fleet.visit
        self.engine: Engine | None = None

    def hear(self, event: Event, _: RolloutStatus) -> None:
        self.events.append(event)

    def turn_back(self) -> None:
        assert self.engine is not None
        self.engine.inbox.put(Turned())

    def __call__(self, *more: Callable[[Event, RolloutStatus], None]) -> RolloutStatus:
        with ThreadPoolExecutor(self.policy.parallel, thread_name_prefix="visit") as executor:
            self.engine = Engine(
                visits=Visits(self.visit, self.fleet.request_stop, self.fleet.cut_all),
                executor=executor,
                task_of=self.game.requests.task,
                clock=fast_clock(),
                observers=[self.hear, *more],
            )
            return self.engine.run(partial(decide, self.policy), self.game.status, "upgrade")


@contextmanager
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_a_rollout_ends_with_every_host_upgraded_and_no_thread_left() -> None:
    run = Run(a_fleet(6))

    with no_thread_left():
        status = run()

    assert (status.result, status.exit_code) == (Result.COMPLETED, 0)
    assert [host.phase() for host in run.fleet.hosts.values()] == [Phase.NEW] * 6


def test_the_status_is_the_fold_of_the_events_that_were_told() -> None:
    run = Run(a_fleet(4))

    status = run()

    again = run.game.status
    for event in run.events:
        again = fold(again, event)
    assert again == status
    assert run.events[0].type is EventType.ROLLOUT_STARTED
    assert run.events[-1].type is EventType.ROLLOUT_ENDED
    assert run.events[-1].data["counts"]["done"] == 4


def test_no_more_visits_run_at_a_time_than_allowed() -> None:
    fleet = a_fleet(6)
    run = Run(fleet, Policy(bake_s=0.0, parallel=2))
    running: list[int] = []

    def watch(event: Event, status: RolloutStatus) -> None:
        running.append(status.busy)

    run(watch)

    assert max(running) == 2


def test_a_link_lost_in_the_middle_is_looked_at_and_the_rollout_goes_on() -> None:
    fleet = a_fleet(3)
    fleet.trouble["web-02", Ask.UPGRADE].append(LOST_AFTER)

    status = Run(fleet)()

    assert status.exit_code == 0
    assert fleet.asked(Ask.UPGRADE).count("web-02") == 1


def test_a_failure_takes_the_begun_hosts_back() -> None:
    fleet = a_fleet(6)
    fleet.trouble["web-03", Ask.UPGRADE].append(WENT_BACK)

    with no_thread_left():
        status = Run(fleet)()

    assert (status.result, status.exit_code) == (Result.ROLLED_BACK, 3)
    assert "web-04" not in fleet.asked(Ask.UPGRADE)
    assert [host.phase() for host in fleet.hosts.values()] == [Phase.OLD] * 6


def test_ctrl_c_once_begins_no_further_host_and_asks_the_running_ones_to_rest() -> None:
    fleet = a_fleet(6)
    run = Run(fleet)

    def meanwhile(task: HostTask) -> None:
        if task.request.ask is Ask.UPGRADE:
            run.turn_back()

    fleet.meanwhile = meanwhile

    with no_thread_left():
        status = run()

    assert (status.result, status.exit_code) == (Result.INTERRUPTED, 130)
    assert fleet.asked(Ask.UPGRADE) == ["web-01"]
    assert fleet.stopped == [status.rollout]
    assert fleet.cut == 0


def test_ctrl_c_twice_cuts_every_link_and_says_what_is_unknown() -> None:
    fleet = a_fleet(2)
    run = Run(fleet)
    cut = threading.Event()

    def visit(task: HostTask, sink: Sink) -> HostOutcome:
        if task.request.ask is not Ask.UPGRADE:
            return fleet.visit(task, sink)
        run.turn_back()
        run.turn_back()
        assert cut.wait(10.0)
        return HostOutcome(task.host.name, Outcome.LINK_LOST, "link_lost", "The connection was lost.")

    run.visit = visit
    fleet.cut_all = cut.set  # type: ignore[method-assign]

    with no_thread_left():
        status = run()

    assert status.exit_code == 130
    assert "not known to be at rest: web-01" in status.message
    assert "fleet commit" not in status.message


def test_a_bug_in_a_visit_ends_the_run_and_is_raised_when_the_others_are_done() -> None:
    fleet = a_fleet(6)
    run = Run(fleet)

    def visit(task: HostTask, sink: Sink) -> HostOutcome:
        if task.request.ask is Ask.UPGRADE and task.host.name == "web-02":
            raise ZeroDivisionError("a bug")
        return fleet.visit(task, sink)

    run.visit = visit

    with no_thread_left(), pytest.raises(ZeroDivisionError):
        run()

    assert "web-04" not in fleet.asked(Ask.UPGRADE)
    assert run.events[-1].type is EventType.ROLLOUT_ENDED


def test_a_reader_that_went_away_does_not_stop_a_rollout() -> None:
    fleet = a_fleet(3)
    run = Run(fleet)

    def broken_pipe(event: Event, status: RolloutStatus) -> None:
        raise BrokenPipeError("nobody reads")

    status = run(broken_pipe)

    assert status.exit_code == 0
    assert any("can't be written" in event.message for event in run.events)


def test_the_clock_gives_utc_and_never_steps_back() -> None:
    clock = steady_clock()

    moments = [clock() for _ in range(100)]

    assert moments == sorted(moments)
    assert moments[0].utcoffset() is not None


def test_a_run_that_ended_is_ended() -> None:
    assert Run(a_fleet(1))().stage is Stage.ENDED
