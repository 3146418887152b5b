"""The engine: threads carry visits, one thread owns the state, and the operator can turn back."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from fleet.clock import SteadyClock, slept_s
from fleet.engine import (
    LONGEST_SLEEP_S,
    Engine,
    Journal,
    ProcessContinued,
    StopRequested,
    Visits,
)
from fleet.errors import JournalError, LockHeld
from fleet.events import Event, EventType, Result, Sink, dump, load
from fleet.onhost.protocol import Ask, Outcome, Phase
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus, Stage, fold
from fleet.rollout.upgrade import decide
from fleet.task import HostOutcome, HostTask
from tests.support.pretend.visits import LOST_AFTER, WENT_BACK, Fleet, PretendClock, a_fleet
from tests.support.rollout.playing import a_play

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
        self.slept: Callable[[], float] = lambda: 0.0
        self.monotonic: Callable[[], float] = time.monotonic

    def hear(self, event: Event, _: RolloutStatus) -> None:
        self.events.append(event)

    def turn_back(self) -> None:
        assert self.engine is not None
        self.engine.inbox.put(StopRequested())

    def __call__(
        self,
        *more: Callable[[Event, RolloutStatus], None],
        journal: Journal | None = None,
        needs_journal: bool = True,
        executor: Executor | None = None,
    ) -> RolloutStatus:
        with ThreadPoolExecutor(self.policy.parallel, thread_name_prefix="visit") as threads:
            self.engine = Engine(
                visits=Visits(self.visit, self.fleet.request_stop, self.fleet.cut_all),
                executor=executor or threads,
                task_of=self.game.tasks.build,
                clock=PretendClock(),
                observers=[self.hear, *more],
                slept=self.slept,
                monotonic=self.monotonic,
                journal=journal,
                needs_journal=needs_journal,
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

    assert (status.stage, status.result, status.exit_code) == (Stage.ENDED, Result.COMPLETED, 0)
    assert [host.phase() for host in run.fleet.hosts.values()] == [Phase.NEW] * 6


def test_the_status_is_the_fold_of_the_events() -> None:
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


def test_a_host_whose_link_was_lost_is_looked_at_and_the_rollout_continues() -> None:
    fleet = a_fleet(3)
    fleet.outcomes["web-02", Ask.UPGRADE].append(LOST_AFTER)

    status = Run(fleet)()

    assert status.exit_code == 0
    assert fleet.asked(Ask.UPGRADE).count("web-02") == 1


def test_a_failure_rolls_back_the_begun_hosts() -> None:
    fleet = a_fleet(6)
    fleet.outcomes["web-03", Ask.UPGRADE].append(WENT_BACK)

    with no_thread_left():
        status = Run(fleet)()

    assert (status.result, status.exit_code) == (Result.ROLLED_BACK, 3)
    assert "web-04" not in fleet.asked(Ask.UPGRADE)
    assert [host.phase() for host in fleet.hosts.values()] == [Phase.OLD] * 6


def test_ctrl_c_once_begins_no_further_host_and_asks_the_running_ones_to_rest() -> None:
    fleet = a_fleet(6)
    run = Run(fleet)

    def on_visit(task: HostTask) -> None:
        if task.request.ask is Ask.UPGRADE:
            run.turn_back()

    fleet.on_visit = on_visit

    with no_thread_left():
        status = run()

    assert (status.result, status.exit_code) == (Result.INTERRUPTED, 130)
    assert fleet.asked(Ask.UPGRADE) == ["web-01"]
    assert fleet.stopped == [status.rollout]
    assert fleet.cut == 0


def test_ctrl_c_twice_cuts_every_connection_and_names_the_hosts_not_known_to_rest() -> None:
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


@pytest.mark.parametrize(("slept_s", "turns"), [(LONGEST_SLEEP_S - 1, False), (LONGEST_SLEEP_S + 1, True)])
def test_a_machine_that_slept_stops_the_run(slept_s: float, turns: bool) -> None:
    """Its links are dead and the hosts went their own way: `fleet resume` looks at each of them first."""
    fleet = a_fleet(6)
    run = Run(fleet)
    run.slept = lambda: slept_s if fleet.asked(Ask.UPGRADE) else 0.0

    status = run()

    assert status.interrupted is turns
    assert fleet.stopped == [status.rollout] * turns
    assert (status.exit_code == 130) is turns
    assert any("or fleet was suspended, for 6 s" in event.message for event in run.events) is turns
    assert ("web-04" not in fleet.asked(Ask.UPGRADE)) is turns


@pytest.mark.parametrize("was_stopped", [False, True], ids=["busy", "stopped"])
def test_a_suspended_fleet_stops_the_run_and_a_late_loop_does_not(was_stopped: bool) -> None:
    fleet = a_fleet(6)
    run = Run(fleet)
    now_s = [0.0]
    run.monotonic = lambda: now_s[0]

    def go_on(event: Event, _: RolloutStatus) -> None:
        if event.type is EventType.BATCH_OPENED:
            now_s[0] += LONGEST_SLEEP_S + 1
            assert run.engine is not None
            if was_stopped:
                run.engine.inbox.put(ProcessContinued())

    status = run(go_on)

    assert status.interrupted is was_stopped


def test_two_readings_with_no_sleep_between_them_agree() -> None:
    assert abs(slept_s() - slept_s()) < 1.0


def test_a_bug_in_a_visit_ends_the_run_and_is_raised_when_the_other_visits_have_ended() -> None:
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


def test_a_closed_output_does_not_stop_a_rollout() -> None:
    fleet = a_fleet(3)
    run = Run(fleet)

    def broken_pipe(event: Event, status: RolloutStatus) -> None:
        raise BrokenPipeError("the reader has gone")

    status = run(broken_pipe)

    assert status.exit_code == 0
    assert any("can't be written" in event.message for event in run.events)


def test_the_clock_gives_utc_and_never_steps_back() -> None:
    clock = SteadyClock()

    moments = [clock() for _ in range(100)]

    assert moments == sorted(moments)
    assert moments[0].utcoffset() is not None


class Book:
    """A journal in memory. It fails from the first event that `refuses` matches; `beats` is called at each heartbeat."""

    def __init__(self, refuses: Callable[[Event], bool] = lambda event: False) -> None:
        self.events: list[Event] = []
        self.groups = 0
        self.refuses = refuses
        self.tried_after = 0
        self.is_broken = False
        self.beats: Callable[[], None] = lambda: None

    def append_all(self, events: Sequence[Event]) -> None:
        self.tried_after += self.is_broken
        if any(map(self.refuses, events)):
            self.is_broken = True
            raise JournalError("The journal x can't be written: database or disk is full.", "Give it room.")
        self.events.extend(events)
        self.groups += 1

    def beat(self) -> None:
        self.beats()


def is_visit(ask: Ask, host: str) -> Callable[[Event], bool]:
    """Whether an event is the start of this visit."""
    return lambda event: (event.type, event.host, event.data.get("ask")) == (EventType.VISIT_STARTED, host, ask.value)


def test_the_journal_holds_every_event_and_folds_to_the_status() -> None:
    run = Run(a_fleet(4))
    book = Book()

    status = run(journal=book)

    assert book.events == run.events
    again = run.game.status
    for event in (load(dump(event)) for event in book.events):
        again = fold(again, event)
    assert again == status


def test_a_visit_is_in_the_journal_before_it_begins_and_every_event_before_it_is_shown() -> None:
    fleet, book = a_fleet(4), Book()
    run = Run(fleet)
    early: list[str] = []

    def on_visit(task: HostTask) -> None:
        started = is_visit(task.request.ask, task.host.name)
        if not any(started(event) for event in tuple(book.events)):
            early.append(task.host.name)

    def watch(event: Event, _: RolloutStatus) -> None:
        if event not in book.events:
            early.append(event.type.value)

    fleet.on_visit = on_visit
    run(watch, journal=book)

    assert len(fleet.calls) >= 16
    assert early == []


def test_a_visit_that_the_journal_could_not_hold_does_not_begin_nor_any_after_it() -> None:
    fleet, book = a_fleet(6), Book(is_visit(Ask.UPGRADE, "web-02"))
    run = Run(fleet)

    with no_thread_left():
        status = run(journal=book)

    assert fleet.asked(Ask.UPGRADE) == ["web-01"]
    assert fleet.stopped == [status.rollout]
    assert book.tried_after == 0
    assert (status.result, status.exit_code) == (Result.HALTED, 3)
    assert status.message.startswith(
        "Halted: The journal x can't be written: database or disk is full. 1 host begun (web-01)"
    )
    for way in ("--journal", f"fleet resume {status.rollout}", f"fleet rollback {status.rollout}"):
        assert way in status.message
    assert status.hosts["web-02"].doing is None
    assert [event.reason for event in run.events if event.type is EventType.NOTE] == ["journal_lost"]


def test_a_journal_that_fails_before_any_host_was_begun_ends_the_run_with_no_host_changed() -> None:
    fleet = a_fleet(3)

    status = Run(fleet)(journal=Book(lambda event: event.type is EventType.ROLLOUT_STARTED))

    assert fleet.calls == []
    assert (status.result, status.exit_code) == (Result.HALTED, 3)
    assert "No host was changed" in status.message


@pytest.mark.parametrize("kind", [EventType.STEP_ENDED, EventType.VISIT_ENDED])
def test_a_host_s_event_is_folded_even_if_the_journal_can_t_hold_it(kind: EventType) -> None:
    fleet = a_fleet(6)
    begun: list[str] = []

    def refuses(event: Event) -> bool:
        if event.data.get("ask") == Ask.UPGRADE.value:
            begun.append(str(event.host))
        return bool(begun) and event.type is kind

    status = Run(fleet)(journal=Book(refuses))

    assert fleet.asked(Ask.UPGRADE) == ["web-01"]
    assert status.hosts["web-01"].phase is Phase.TRIAL
    assert status.hosts["web-01"].doing is None
    assert status.exit_code == 3


def test_a_host_that_is_not_known_to_rest_when_the_journal_is_lost_needs_a_person() -> None:
    fleet = a_fleet(6)
    fleet.outcomes["web-01", Ask.UPGRADE].append(LOST_AFTER)

    status = Run(fleet)(journal=Book(lambda event: event.outcome is Outcome.LINK_LOST))

    assert (status.result, status.exit_code) == (Result.HALTED, 4)
    assert "not known to be at rest: web-01" in status.message


def test_an_end_that_the_journal_can_t_hold_keeps_its_result() -> None:
    run = Run(a_fleet(3))

    status = run(journal=Book(lambda event: event.type is EventType.ROLLOUT_ENDED))

    assert (status.result, status.exit_code) == (Result.COMPLETED, 0)
    assert any(event.reason == "journal_lost" for event in run.events)


@pytest.mark.parametrize(
    "refuses",
    [lambda event: event.type is EventType.ROLLBACK_STARTED, is_visit(Ask.ROLLBACK, "web-01")],
    ids=["its announcement", "its first visit"],
)
def test_a_rollback_that_loses_its_journal_continues_to_its_end(refuses: Callable[[Event], bool]) -> None:
    fleet = a_fleet(6)
    fleet.outcomes["web-03", Ask.UPGRADE].append(WENT_BACK)
    run = Run(fleet)

    status = run(journal=Book(refuses))

    assert (status.result, status.exit_code) == (Result.ROLLED_BACK, 3)
    assert [host.phase() for host in fleet.hosts.values()] == [Phase.OLD] * 6
    assert status.journal_lost is None
    assert any("The rollback continues without it" in event.message for event in run.events)


def test_a_run_that_needs_no_journal_warns_and_continues() -> None:
    fleet = a_fleet(3)
    run = Run(fleet)

    status = run(journal=Book(lambda event: True), needs_journal=False)

    assert (status.result, status.exit_code) == (Result.COMPLETED, 0)
    assert [event.message for event in run.events if event.type is EventType.NOTE] == [
        "Warning: The journal x can't be written: database or disk is full. The rollback continues without it."
    ]


def test_a_run_whose_lock_was_taken_over_halts_and_names_the_new_holder() -> None:
    fleet, book = a_fleet(6), Book()
    run = Run(fleet)

    def beats() -> None:
        if fleet.asked(Ask.UPGRADE):
            book.beats = lambda: None
            raise LockHeld("The journal's lock was taken over by bob@couch (fleet upgrade, pid 1 on couch)")

    book.beats = beats

    status = run(journal=book)

    assert (status.result, status.exit_code) == (Result.HALTED, 3)
    assert status.message.startswith(
        "Halted: The journal's lock was taken over by bob@couch (fleet upgrade, pid 1 on couch)."
    )
    assert fleet.stopped == [status.rollout]
    assert "web-04" not in fleet.asked(Ask.UPGRADE)
    assert book.events[-1].type is EventType.ROLLOUT_ENDED


def test_a_heartbeat_that_can_t_be_written_loses_the_journal() -> None:
    book = Book()

    def beats() -> None:
        raise JournalError("The journal x can't be written: it is gone.")

    book.beats = beats

    assert Run(a_fleet(3))(journal=book).journal_lost == "The journal x can't be written: it is gone."


class AtOnce(Executor):
    """Runs each visit when it is handed over, and notes what the journal held then."""

    def __init__(self) -> None:
        self.before: Callable[[HostTask], None] = lambda task: None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        self.before(args[0])
        done: Future[Any] = Future()
        done.set_result(fn(*args))
        return done


def test_a_burst_of_events_is_written_in_one_transaction() -> None:
    """Each turn writes once: what came in, and the starts of the visits that follow."""
    run, book = Run(a_fleet(6)), Book()

    run(journal=book, executor=AtOnce())

    assert len(book.events) > 5 * book.groups


def test_a_run_that_dies_while_it_writes_the_start_of_a_visit_has_not_begun_it() -> None:
    fleet, executor = a_fleet(6), AtOnce()
    is_fatal = is_visit(Ask.UPGRADE, "web-01")

    class Killed(BaseException):
        pass

    class Dying(Book):
        def append_all(self, events: Sequence[Event]) -> None:
            super().append_all(events)
            if any(map(is_fatal, events)):
                raise Killed

    book = Dying()
    with pytest.raises(Killed):
        Run(fleet)(journal=book, executor=executor)

    assert any(map(is_fatal, book.events))
    assert fleet.asked(Ask.UPGRADE) == []


def test_what_was_folded_when_a_run_breaks_off_is_in_the_journal() -> None:
    """A bug in a decision ends the run, but not before the journal holds what had happened."""
    run, book = Run(a_fleet(2)), Book()

    def break_off(event: Event, status: RolloutStatus) -> None:
        if event.type is EventType.BATCH_OPENED:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        run(break_off, journal=book)

    assert EventType.BATCH_OPENED in [event.type for event in book.events]
