"""Plays a decision against pretend hosts without threads or time: visits end in an order that the test may choose."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from fleet.events import Event, EventType, Note
from fleet.rollout.actions import BeginVisit, Decide, Emit, Finish, Wait
from fleet.rollout.host_status import FaultKind, HostStatus
from fleet.rollout.initial_events import initial_events
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus, fold
from fleet.rollout.tasks import Target, TaskBuilder
from fleet.rollout.upgrade import decide
from tests.support.pretend.visits import AT, NEW, Fleet, a_host

ROLLOUT = "20261123-1000-test"

Choose = Callable[[int], int]
MOST_TURNS = 5000


@dataclass
class Play:
    """One rollout, turn by turn. `now` moves only when something takes time."""

    fleet: Fleet
    tasks: TaskBuilder
    status: RolloutStatus
    now: datetime = AT
    events: list[Event] = field(default_factory=list)
    running: list[BeginVisit] = field(default_factory=list)
    choose: Choose = lambda count: 0
    took_s: float = 1.0
    watch: Callable[[RolloutStatus, tuple[object, ...]], None] = lambda status, actions: None

    def to_the_end(self, decide: Decide) -> Finish:
        """Plays to the end and gives it."""
        for event in initial_events(self.status, self.now):
            self._fold(event)
        for _ in range(MOST_TURNS):
            actions = decide(self.status, self.now)
            self.watch(self.status, actions)
            for action in actions:
                match action:
                    case Finish():
                        assert not self.running
                        data = {"result": action.result.value, "exit_code": action.exit_code}
                        self._say(Emit(EventType.ROLLOUT_ENDED, message=action.message, data=data))
                        return action
                    case Emit():
                        self._say(action)
                    case BeginVisit():
                        self._visit_event(action, EventType.VISIT_STARTED)
                        self.running.append(action)
            if any(isinstance(action, Emit) for action in actions):
                continue
            self._pass_time([action.until for action in actions if isinstance(action, Wait)])
        raise AssertionError("the rollout never ends")

    def say(self, note: Note) -> None:
        """Emits a note as the engine does, such as that the operator pressed Ctrl-C."""
        self._say(Emit(EventType.NOTE, note=note))

    def fault(self, name: str) -> FaultKind | None:
        """The kind of the host's fault, `None` without one."""
        found = self.status.hosts[name].fault
        return found.kind if found else None

    def _pass_time(self, waits: list[datetime]) -> None:
        if self.running:
            self.now += timedelta(seconds=self.took_s)
            self._end(self.running.pop(self.choose(len(self.running))))
            return
        assert waits, f"nothing runs and nothing is waited for in {self.status.stage}"
        self.now = max(self.now, min(waits))

    def _end(self, action: BeginVisit) -> None:
        task = self.tasks.build(action, self.status)
        outcome = self.fleet.visit(task, lambda event: None)
        self._fold(
            Event(
                at=self.now,
                rollout=self.status.rollout,
                type=EventType.VISIT_ENDED,
                host=action.host,
                batch=action.batch,
                outcome=outcome.outcome,
                reason=outcome.reason,
                message=outcome.message,
                took_s=outcome.took_s,
                report=outcome.report,
                data={"ask": action.ask.value, "remedy": outcome.remedy},
            )
        )

    def _visit_event(self, action: BeginVisit, kind: EventType) -> None:
        data = {"ask": action.ask.value}
        self._fold(Event(self.now, self.status.rollout, kind, host=action.host, batch=action.batch, data=data))

    def _say(self, action: Emit) -> None:
        self._fold(action.event(self.now, self.status.rollout))

    def _fold(self, event: Event) -> None:
        self.events.append(event)
        self.status = fold(self.status, event)


def a_play(fleet: Fleet, policy: Policy, sizes: Sequence[int] = (1, 2, 3)) -> Play:
    """A rollout over all hosts of the fleet, in batches of these sizes."""
    left = list(fleet.hosts)
    batches = []
    for size in (*sizes, len(left)):
        batches.append(tuple(left[:size]))
        left = left[size:]
    hosts = {name: a_host(name) for name in fleet.hosts}
    start = RolloutStatus(ROLLOUT, {name: HostStatus(name) for name in hosts}, tuple(filter(None, batches)))
    return Play(fleet, TaskBuilder(hosts, "alice@desk", policy, Target(NEW, 1000, "/nginx")), start)


def play(fleet: Fleet, policy: Policy, sizes: Sequence[int] = (1, 2, 3)) -> tuple[Finish, Play]:
    """Plays an upgrade to its end; gives the end and the play."""
    game = a_play(fleet, policy, sizes)
    return game.to_the_end(partial(decide, policy)), game
