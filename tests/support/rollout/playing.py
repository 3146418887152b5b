"""Plays a decision against pretend hosts without threads or time: visits end in an order that the test may choose."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from fleet.events import Event, EventType
from fleet.rollout.actions import Announce, Decide, Finish, Visit, Wait
from fleet.rollout.host_status import HostStatus
from fleet.rollout.initial_events import opening
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus, fold
from fleet.rollout.tasks import Requests, Target
from fleet.rollout.upgrade import decide
from tests.support.pretend.visits import AT, NEW, Fleet, a_host

ROLLOUT = "20261123-1000-test"

Choose = Callable[[int], int]
MOST_TURNS = 5000


@dataclass
class Play:
    """One rollout, turn by turn. `now` only moves when something takes time."""

    fleet: Fleet
    requests: Requests
    status: RolloutStatus
    now: datetime = AT
    events: list[Event] = field(default_factory=list)
    running: list[Visit] = field(default_factory=list)
    choose: Choose = lambda count: 0
    took_s: float = 1.0
    watch: Callable[[RolloutStatus, tuple[object, ...]], None] = lambda status, moves: None

    def to_the_end(self, decide: Decide) -> Finish:
        """The end that the decision comes to."""
        for event in opening(self.status, self.now):
            self._fold(event)
        for _ in range(MOST_TURNS):
            moves = decide(self.status, self.now)
            self.watch(self.status, moves)
            for move in moves:
                match move:
                    case Finish():
                        assert not self.running
                        data = {"result": move.result.value, "exit_code": move.exit_code}
                        self._say(Announce(EventType.ROLLOUT_ENDED, message=move.message, data=data))
                        return move
                    case Announce():
                        self._say(move)
                    case Visit():
                        self._visit_event(move, EventType.VISIT_STARTED)
                        self.running.append(move)
            if any(isinstance(move, Announce) for move in moves):
                continue
            self._pass_time([move.until for move in moves if isinstance(move, Wait)])
        raise AssertionError("the rollout never ends")

    def say(self, reason: str) -> None:
        """A note of the engine's, such as that the operator turned back."""
        self._say(Announce(EventType.NOTE, reason=reason))

    def _pass_time(self, waits: list[datetime]) -> None:
        if self.running:
            self.now += timedelta(seconds=self.took_s)
            self._end(self.running.pop(self.choose(len(self.running))))
            return
        assert waits, f"nothing runs and nothing is waited for in {self.status.stage}"
        self.now = max(self.now, min(waits))

    def _end(self, move: Visit) -> None:
        task = self.requests.task(move, self.status)
        outcome = self.fleet.visit(task, lambda event: None)
        self._fold(
            Event(
                at=self.now,
                rollout=self.status.rollout,
                type=EventType.VISIT_ENDED,
                host=move.host,
                batch=move.batch,
                outcome=outcome.outcome,
                reason=outcome.reason,
                message=outcome.message,
                took_s=outcome.took_s,
                report=outcome.report,
                data={"ask": move.ask.value, "remedy": outcome.remedy},
            )
        )

    def _visit_event(self, move: Visit, kind: EventType) -> None:
        data = {"ask": move.ask.value}
        self._fold(Event(self.now, self.status.rollout, kind, host=move.host, batch=move.batch, data=data))

    def _say(self, move: Announce) -> None:
        self._fold(
            Event(
                self.now,
                self.status.rollout,
                move.type,
                batch=move.batch,
                reason=move.reason,
                message=move.message,
                data=move.data,
            )
        )

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
    return Play(fleet, Requests(hosts, "alice@desk", policy, Target(NEW, 1000, "/nginx")), start)


def play(fleet: Fleet, policy: Policy, sizes: Sequence[int] = (1, 2, 3)) -> tuple[Finish, Play]:
    """The end of an upgrade, and how it went."""
    game = a_play(fleet, policy, sizes)
    return game.to_the_end(partial(decide, policy)), game
