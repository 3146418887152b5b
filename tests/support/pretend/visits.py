"""Pretend hosts for the tests of everything above SSH.

`Fleet.visit` is a visit as the engine knows it. A test sets what goes wrong: `fleet.outcomes["web-02", Ask.UPGRADE]` is a
list of outcomes, each used once before the host behaves again.
"""

import queue
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Lock

from fleet.clock import Item
from fleet.events import Event, EventType, Sink
from fleet.host import Host
from fleet.onhost.protocol import Ask, Outcome, Step
from fleet.onhost.visit.end import End
from fleet.task import HostOutcome, HostTask
from tests.support.pretend.host import AT as AT
from tests.support.pretend.host import NEW as NEW
from tests.support.pretend.host import OLD as OLD
from tests.support.pretend.host import THIRD as THIRD
from tests.support.pretend.host import Pretend as Pretend

LOST_AFTER = HostOutcome("", Outcome.LINK_LOST, "link_lost", "The connection was lost.", "after")
"""The host did what it was asked, and the answer was lost."""
LOST_BEFORE = HostOutcome("", Outcome.LINK_LOST, "link_lost", "The connection was lost.", "before")
"""The host never heard the request."""
UNREACHABLE = HostOutcome("", Outcome.UNREACHABLE, "timeout", "No answer within 10 s.", "See whether it is up.")
REFUSED = HostOutcome("", Outcome.REFUSED, "daemon_off", "nginx runs with daemon off.", "Start it with daemon on.")
WENT_BACK = HostOutcome("", Outcome.FAILED, "probe_failed", "the new workers answer 500.", "Mend the release.")
TAKEN_OVER = HostOutcome("", Outcome.REFUSED, "taken_over", "taken over by bob@desk", "Ask bob@desk.")


@dataclass
class Fleet:
    """All hosts, the outcomes to come, and the requests of each host, in order. `on_visit` is called at each visit.

    A host that is `off` answers nothing.
    """

    hosts: dict[str, Pretend]
    outcomes: dict[tuple[str, Ask], list[HostOutcome]] = field(default_factory=lambda: defaultdict(list))
    calls: list[tuple[str, Ask]] = field(default_factory=list)
    tasks: list[HostTask] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    cut: int = 0
    off: set[str] = field(default_factory=set)
    on_visit: Callable[[HostTask], None] = lambda task: None
    lock: Lock = field(default_factory=Lock)

    def visit(self, task: HostTask, sink: Sink) -> HostOutcome:
        """One visit."""
        self.on_visit(task)
        with self.lock:
            name, ask = task.host.name, task.request.ask
            host = self.hosts[name]
            self.calls.append((name, ask))
            self.tasks.append(task)
            if name in self.off:
                return replace(UNREACHABLE, host=name)
            waiting = self.outcomes[name, ask]
            bad = waiting.pop(0) if waiting else None
            if bad is not None and bad is not LOST_AFTER:
                return self._badly(host, task, bad)
            sink(_event(task, EventType.STEP_STARTED))
            end = host.answer(task.request)
            sink(_event(task, EventType.STEP_ENDED))
            if bad is not None:
                return replace(bad, host=name)
            return outcome_of(host, end, took_s=0.2)

    def _badly(self, host: Pretend, task: HostTask, bad: HostOutcome) -> HostOutcome:
        if bad.outcome in (Outcome.UNREACHABLE, Outcome.LINK_LOST):
            return replace(bad, host=host.name)
        if task.request.ask is Ask.UPGRADE and bad.outcome is Outcome.FAILED:
            host.begin(task.request)
        return replace(bad, host=host.name, report=host.report(), took_s=0.2)

    def request_stop(self, rollout: str) -> None:
        self.stopped.append(rollout)

    def cut_all(self) -> None:
        self.cut += 1

    def asked(self, ask: Ask) -> list[str]:
        """The hosts that were asked this, in order."""
        return [name for name, each in self.calls if each is ask]


def outcome_of(host: Pretend, end: End, took_s: float) -> HostOutcome:
    """What the controller makes of the end of a visit."""
    report = host.report()._replace(rehearsal=end.rehearsal)
    return HostOutcome(host.name, end.outcome, end.reason, end.message, end.remedy, report=report, took_s=took_s)


def _event(task: HostTask, kind: EventType) -> Event:
    outcome = Outcome.DONE if kind is EventType.STEP_ENDED else None
    return Event(
        at=AT,
        rollout=task.request.rollout,
        type=kind,
        host=task.host.name,
        batch=task.batch,
        step=Step.LAUNCH,
        outcome=outcome,
    )


def a_fleet(count: int) -> Fleet:
    """Hosts web-01, web-02, … that run the old release."""
    return Fleet({name: Pretend(name) for name in names(count)})


def names(count: int) -> list[str]:
    return [f"web-{number:02}" for number in range(1, count + 1)]


def a_host(name: str) -> Host:
    return Host(name, "192.0.2.1")


class PretendClock:
    """Moves only while the engine waits and no visit runs, by exactly the time of the wait, which takes no time.

    So no deadline passes because the machine is slow.
    """

    def __init__(self) -> None:
        self._now = AT

    def __call__(self) -> datetime:
        return self._now

    def wait(self, inbox: queue.SimpleQueue[Item], wait_s: float, busy: int) -> Item:
        if busy:
            return inbox.get(timeout=wait_s)
        try:
            return inbox.get_nowait()
        except queue.Empty:
            self._now += timedelta(seconds=wait_s)
            raise
