"""Pretend hosts for the tests of everything above SSH: they keep a phase and a record, and answer as real ones do.

`Fleet.visit` is a visit as the engine knows it. What goes wrong is said beforehand: `fleet.trouble["web-02", Ask.UPGRADE]`
is a list of outcomes, each used once before the host behaves again.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from threading import Lock

from fleet.events import Event, EventType, Sink
from fleet.host import Host
from fleet.onhost.protocol import (
    Ask,
    MasterView,
    Outcome,
    Phase,
    Record,
    Report,
    Rest,
    State,
    Step,
)
from fleet.task import HostOutcome, HostTask

OLD = "a" * 64
NEW = "b" * 64
AT = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
VERSIONS = {OLD: "1.26.2", NEW: "1.26.3"}

LOST_AFTER = HostOutcome("", Outcome.LINK_LOST, "link_lost", "The connection was lost.", "after")
"""The host did what it was asked, and the answer was lost."""
LOST_BEFORE = HostOutcome("", Outcome.LINK_LOST, "link_lost", "The connection was lost.", "before")
"""The host never heard the request."""
UNREACHABLE = HostOutcome("", Outcome.UNREACHABLE, "timeout", "No answer within 10 s.", "See whether it is up.")
REFUSED = HostOutcome("", Outcome.REFUSED, "daemon_off", "nginx runs with daemon off.", "Start it with daemon on.")
WENT_BACK = HostOutcome("", Outcome.FAILED, "probe_failed", "the new workers answer 500.", "Mend the release.")
TAKEN_OVER = HostOutcome("", Outcome.REFUSED, "taken_over", "taken over by bob@desk", "Ask bob@desk.")


@dataclass
class Pretend:
    """One host."""

    name: str
    runs: str = OLD
    held: str | None = None
    record: Record | None = None
    previous: Record | None = None
    epoch: int = 0
    asked: list[Ask] = field(default_factory=list)

    def phase(self) -> Phase:
        """As a real host would tell it, seen from its record's release."""
        if self.held is not None:
            return Phase.TRIAL
        return Phase.NEW if self.record is not None and self.runs == self.record.target else Phase.OLD

    def report(self) -> Report:
        masters = [MasterView(990, self.runs, VERSIONS.get(self.runs), False, 4, 0)]
        if self.held:
            masters.insert(0, MasterView(812, self.held, VERSIONS.get(self.held), True, 0, 0))
        return Report(
            phase=self.phase(),
            masters=tuple(masters),
            running_sha256=self.runs,
            running_version=VERSIONS.get(self.runs),
            path="/usr/local/nginx/sbin/nginx",
            path_sha256=self.runs,
            held=self.held is not None,
            record=self.record,
            epoch=self.epoch,
            instance="0" * 16,
            machine_id=self.name,
            undo="/var/lib/fleet/undo" if self.held else None,
            previous=self.previous,
        )

    def answer(self, task: HostTask) -> tuple[Outcome, str | None, str]:
        """What the step script would do and say."""
        request = task.request
        fenced = request.ask not in (Ask.LOOK, Ask.STAGE) and not request.take_over
        if fenced and request.epoch < self.epoch:
            return Outcome.REFUSED, "taken_over", "taken over by bob@desk"
        if request.ask in (Ask.UPGRADE, Ask.ROLLBACK):
            self.epoch = max(self.epoch + request.take_over, request.epoch)
        match request.ask:
            case Ask.STAGE if request.goal is not None and request.goal.target == self.runs:
                return Outcome.DONE, "runs_it", "this host runs the release already"
            case Ask.UPGRADE:
                assert request.goal is not None
                assert request.goal.rest is Rest.HELD
                self.record = Record(
                    request.rollout,
                    request.epoch,
                    request.operator,
                    request.goal.target,
                    self.runs,
                    self.runs,
                    f"{AT:%F}",
                )
                self.held, self.runs = self.runs, request.goal.target
            case Ask.COMMIT:
                assert self.record is not None
                self.held, self.record = None, self.record._replace(state=State.COMMITTED)
            case Ask.ROLLBACK:
                if self.record is None:
                    return Outcome.DONE, "nothing_to_undo", "this host was not changed by the rollout"
                if self.previous is not None and self.previous.rollout == request.rollout:
                    self.record, self.previous = self.previous, None
                if self.record.rollout != request.rollout:
                    return Outcome.DONE, "other_rollout", "this host is in another rollout"
                self.runs, self.held = self.record.before_process, None
                self.record = self.record._replace(state=State.ROLLED_BACK)
            case Ask.BAKE if request.left_at is not None and self.phase() is Phase.OLD:
                return Outcome.FAILED, "went_back", "the host is OLD: it was left TRIAL"
        return Outcome.DONE, None, ""


@dataclass
class Fleet:
    """All hosts, the troubles to come, and what was asked of whom, in order. `meanwhile` is called at each visit."""

    hosts: dict[str, Pretend]
    trouble: dict[tuple[str, Ask], list[HostOutcome]] = field(default_factory=lambda: defaultdict(list))
    calls: list[tuple[str, Ask]] = field(default_factory=list)
    tasks: list[HostTask] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    cut: int = 0
    meanwhile: Callable[[HostTask], None] = lambda task: None
    lock: Lock = field(default_factory=Lock)

    def visit(self, task: HostTask, sink: Sink) -> HostOutcome:
        """One visit."""
        self.meanwhile(task)
        with self.lock:
            name, ask = task.host.name, task.request.ask
            host = self.hosts[name]
            self.calls.append((name, ask))
            self.tasks.append(task)
            waiting = self.trouble[name, ask]
            bad = waiting.pop(0) if waiting else None
            if bad is not None and bad is not LOST_AFTER:
                return self._badly(host, task, bad)
            sink(_event(task, EventType.STEP_STARTED))
            outcome, reason, message = host.answer(task)
            sink(_event(task, EventType.STEP_ENDED))
            if bad is not None:
                return replace(bad, host=name)
            return HostOutcome(name, outcome, reason, message, report=host.report(), took_s=0.2)

    def _badly(self, host: Pretend, task: HostTask, bad: HostOutcome) -> HostOutcome:
        if bad.outcome in (Outcome.UNREACHABLE, Outcome.LINK_LOST):
            return replace(bad, host=host.name)
        if task.request.ask is Ask.UPGRADE and bad.outcome is Outcome.FAILED:
            goal = task.request.goal
            assert goal is not None
            request = task.request
            self.hosts[host.name].record = Record(
                request.rollout, request.epoch, request.operator, goal.target, host.runs, host.runs, f"{AT:%F}"
            )
        return replace(bad, host=host.name, report=host.report(), took_s=0.2)

    def request_stop(self, rollout: str) -> None:
        self.stopped.append(rollout)

    def cut_all(self) -> None:
        self.cut += 1

    def asked(self, ask: Ask) -> list[str]:
        """The hosts that were asked this, in order."""
        return [name for name, each in self.calls if each is ask]


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


def standing_clock() -> Callable[[], datetime]:
    """A clock that stands still: enough where nothing is waited for."""
    return lambda: AT


def fast_clock() -> Callable[[], datetime]:
    """A clock that runs a hundred times as fast as ours, for what waits."""
    began_s = time.monotonic()
    return lambda: AT + 100 * timedelta(seconds=time.monotonic() - began_s)
