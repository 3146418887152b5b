"""Laptops whose runs are turned by hand: the real engine without a thread, its visits ended when and how a test says.

A `Run` is one command at work. Its journal is a list of texts, as `dump` writes them, so that what a killed run leaves
behind is all that a resume knows. All share one `Ground`: the hosts, the time, and the messages on their way.
"""

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

from fleet.clock import Item
from fleet.engine import Engine, StopRequested, Visits
from fleet.errors import JournalError, LockHeld
from fleet.events import Event, dump, load
from fleet.onhost.protocol import Outcome
from fleet.rollout.actions import Decide, Finish
from fleet.rollout.initial_events import initial_events
from fleet.rollout.own_hosts import JournaledHosts, journaled_hosts
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus, fold
from fleet.rollout.tasks import TaskBuilder
from fleet.task import HostOutcome, HostTask
from tests.support.pretend.visit import WELL, Killed, Mishap
from tests.support.pretend.visits import AT, LOST_AFTER, UNREACHABLE, Pretend, outcome_of

LATE_S = 5.0
"""How long after its link was lost a step script may still begin a step."""


@dataclass
class Pending:
    """A visit that was begun and has not ended."""

    task: HostTask
    future: "Future[HostOutcome]" = field(default_factory=Future)

    @property
    def host(self) -> str:
        return self.task.host.name


class Desk(Executor):
    """An executor that keeps visits until the test ends them."""

    def __init__(self, check: Callable[[HostTask], None]) -> None:
        self.pending: list[Pending] = []
        self.check = check

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        self.check(args[0])
        self.pending.append(Pending(args[0]))
        return self.pending[-1].future


class TurnedByHand(Engine):
    """The engine without its waiting loop: each turn folds the inbox and carries out the open actions."""

    finish: Finish | None = None

    def open(self, decide: Decide, start: RolloutStatus) -> None:
        """The run has begun."""
        self.decide = decide
        self._status = RolloutStatus(rollout=start.rollout)
        for event in initial_events(start, self._clock()):
            self._fold(event)
        self.turn()

    def turn(self) -> None:
        """As one round of `run`."""
        if self.finish is not None:
            return
        with suppress(queue.Empty):
            while True:
                self._accept(self.inbox.get_nowait())
        self._check_for_sleep()
        self._beat()
        self.finish = self._carry_out(self.decide)[0]
        if self.finish is not None:
            self._end(self.finish)

    @property
    def status(self) -> RolloutStatus:
        return self._status


@dataclass
class SetClock:
    """A clock that shows the time that a test sets. `TurnedByHand` never waits."""

    now: Callable[[], datetime]

    def __call__(self) -> datetime:
        return self.now()

    def wait(self, inbox: queue.SimpleQueue[Item], wait_s: float, busy: int) -> Item:
        raise AssertionError("an engine that is turned by hand waits for nothing")


@dataclass
class Written:
    """One run in a journal: its command, its facts, and its events as texts."""

    rollout: str
    command: str
    policy: Policy
    target: str | None
    batches: tuple[tuple[str, ...], ...]
    texts: list[str] = field(default_factory=list)

    def status(self) -> RolloutStatus:
        return reduce(fold, map(load, self.texts), RolloutStatus())


@dataclass
class Book:
    """A journal: its runs, the holder of its lock, whether its disk is full."""

    id: str
    runs: list[Written] = field(default_factory=list)
    holder: "Recorder | None" = None
    is_full: bool = False

    def hosts(self, rollout: str) -> JournaledHosts:
        """What the journal knows of the hosts of this rollout."""
        events: list[Event] = []
        for run in self.runs:
            if run.rollout == rollout:
                first, *rest = map(load, run.texts)
                events += [replace(first, data={**first.data, "command": run.command}), *rest]
        return journaled_hosts(rollout, events, is_running=self.holder is not None)


class Recorder:
    """What one run writes into a book."""

    def __init__(self, book: Book, written: Written) -> None:
        self.book, self.written = book, written
        self.had_lock = False

    def append_all(self, events: Sequence[Event]) -> None:
        if self.book.is_full:
            raise JournalError("The journal can't be written: no room.")
        if not self.written.texts:
            self.book.runs.append(self.written)
        self.written.texts.extend(map(dump, events))

    def beat(self) -> None:
        if self.book.is_full:
            raise JournalError("The journal can't be written: no room.")
        if self.had_lock and self.book.holder is not self:
            self.had_lock = False
            raise LockHeld("The journal's lock was taken over by another run.")

    def take_lock(self) -> None:
        self.book.holder, self.had_lock = self, True


@dataclass
class Ground:
    """The hosts, the time, and the visits whose link is lost but whose script is still about to act."""

    hosts: dict[str, Pretend]
    now: datetime = AT
    off: set[str] = field(default_factory=set)
    late: list[tuple[datetime, HostTask, Mishap]] = field(default_factory=list)
    after: Callable[[HostTask, Pretend], None] = lambda task, host: None

    def clock(self) -> datetime:
        return self.now

    def pass_time(self, seconds: float) -> None:
        """Lets late step scripts act and leases expire, each at its time."""
        until = self.now + timedelta(seconds=seconds)
        while self.late and self.late[0][0] <= until:
            at, task, mishap = self.late.pop(0)
            self.now = max(self.now, at)
            self.act(task, mishap)
        self.now = until
        for name, host in self.hosts.items():
            if name not in self.off:
                host.mind_lease()
                host.mind_retirement()

    def act(self, task: HostTask, mishap: Mishap) -> HostOutcome:
        """Carries out the visit on the pretend host; gives its answer."""
        name, host = task.host.name, self.hosts[task.host.name]
        if name in self.off:
            return HostOutcome(name, UNREACHABLE.outcome, UNREACHABLE.reason, UNREACHABLE.message)
        served = host.model.master_accepts
        try:
            end = host.answer(task.request, mishap)
        except Killed:
            return HostOutcome(name, Outcome.LINK_LOST, LOST_AFTER.reason, LOST_AFTER.message)
        finally:
            assert host.model.master_accepts or not served, f"{task.request.ask} took the service of {name} away"
            self.after(task, host)
        return outcome_of(host, end, took_s=1.0)

    def lose(self, task: HostTask, mishap: Mishap, late_s: float) -> HostOutcome:
        """Loses the connection; the step script acts `late_s` seconds later."""
        self.late.append((self.now + timedelta(seconds=min(late_s, LATE_S)), task, mishap))
        self.late.sort(key=lambda item: item[0])
        return HostOutcome(task.host.name, Outcome.LINK_LOST, LOST_AFTER.reason, LOST_AFTER.message)


class Run:
    """One command at work on one laptop. `recorder` is its journal, where it has one."""

    def __init__(
        self,
        ground: Ground,
        tasks: TaskBuilder,
        decide: Decide,
        start: RolloutStatus,
        recorder: Recorder | None = None,
        needs_journal: bool = True,
        watch: Callable[["Run", HostTask], None] = lambda run, task: None,
    ) -> None:
        self.ground = ground
        self.tasks = tasks
        self.recorder = recorder
        self.slept_s = 0.0
        self.stops = False
        self.told = RolloutStatus()
        self._told = 0
        self.desk = Desk(lambda task: watch(self, task))
        self.engine = TurnedByHand(
            visits=Visits(lambda task, sink: HostOutcome("", Outcome.DONE), self._stop, self._stop_all),
            executor=self.desk,
            task_of=tasks.build,
            clock=SetClock(ground.clock),
            slept=lambda: self.slept_s,
            journal=recorder,
            needs_journal=needs_journal,
        )
        self.engine.open(decide, start)

    def _stop(self, rollout: str) -> None:
        self.stops = True

    def _stop_all(self) -> None:
        """Cuts every connection; the step scripts stop by themselves."""
        for pending in list(self.desk.pending):
            self.end(pending, self.ground.lose(pending.task, Mishap(turns_after=0), 1.0), turns=False)

    @property
    def status(self) -> RolloutStatus:
        return self.engine.status

    @property
    def is_over(self) -> bool:
        return self.engine.finish is not None

    def turn_back(self) -> None:
        """Ctrl-C."""
        self.engine.inbox.put(StopRequested())
        self.engine.turn()

    def end(self, pending: Pending, outcome: HostOutcome, turns: bool = True) -> None:
        """Ends the visit with this outcome and lets the engine fold it."""
        self.desk.pending.remove(pending)
        pending.future.set_result(outcome)
        if turns:
            self.engine.turn()

    def to_the_end(self) -> Finish:
        """Runs to the end with no further mishap."""
        for _ in range(3000):
            if self.engine.finish is not None:
                return self.engine.finish
            if self.desk.pending:
                pending = self.desk.pending[0]
                self.end(pending, self.ground.act(pending.task, WELL))
            else:
                self.ground.pass_time(2.0)
                self.engine.turn()
        raise AssertionError(f"the run never ends: {self.status}")

    def is_told_rightly(self) -> None:
        """Checks that the journal, loaded and folded, gives the shown status."""
        if self.recorder is None or self.engine._journal is None:
            return
        texts = self.recorder.written.texts
        self.told = reduce(fold, map(load, texts[self._told :]), self.told)
        self._told = len(texts)
        assert self.told == self.status
