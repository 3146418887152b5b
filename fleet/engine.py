"""Carries a decision out: hands visits to an executor, puts what comes back into one status, and asks what is next.

One thread owns the state. Visits run in the executor's workers and put their events on one queue; this thread alone
takes them off, writes them to the journal, folds them and shows them to the observers. It never prints and never
decides. A visit is a plain function of plain data, so that another executor (processes, workers near the hosts) can take
the place of the threads.

What is not in the journal is not done: an event is written before it is folded, and a visit's start before the visit is
begun. A journal that can't be written, or whose lock another run has taken, turns the run back. Only what takes hosts
back goes on without it.
"""

import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol

from fleet.errors import JournalError, LockHeld
from fleet.events import Event, EventType, Note, Sink
from fleet.onhost.protocol import Ask, Outcome
from fleet.rollout import results
from fleet.rollout.actions import Decide, Emit, Finish, Visit, Wait
from fleet.rollout.initial_events import initial_events
from fleet.rollout.rollout_status import RolloutStatus, Stage, fold
from fleet.task import HostOutcome, HostTask

TICK_S = 0.25
NAP_S = 5.0
"""A laptop that slept for longer than this counts as interrupted: its links are dead, and the hosts went their own way."""
CUT_PATIENCE_S = 10.0

Clock = Callable[[], datetime]
Observer = Callable[[Event, RolloutStatus], None]
Heartbeat = Callable[[RolloutStatus, datetime], None]


class Journal(Protocol):
    """What a run writes. `append` returns when the event is on the disk; `beat` is called often and keeps the lock.

    Both raise `JournalError` when it can't be written; `beat` raises `LockHeld` when another run has taken the lock.
    """

    def append(self, event: Event) -> None: ...

    def beat(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Visits:
    """The way to the hosts. `request_stop(rollout)` ends its visits in their nearest resting phase; `cut_all` now.

    `close` is called when no visit runs any more: what they shared is let go.
    """

    visit: Callable[[HostTask, Sink], HostOutcome]
    request_stop: Callable[[str], None]
    cut_all: Callable[[], None]
    close: Callable[[], None] = lambda: None


def slept_s() -> float:
    """How long this machine has slept since it was booted, in seconds.

    On Linux the two clocks differ by just that. Elsewhere the wall clock stands in, which somebody may set, too.
    """
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()
    return now_s - time.monotonic()


def steady_clock() -> Clock:
    """A clock that gives the time of day in UTC and never steps back, whatever is done to the laptop's clock."""
    began, began_s = datetime.now(UTC), time.monotonic()
    return lambda: began + timedelta(seconds=time.monotonic() - began_s)


class Turned:
    """The operator turned back: put on the queue by a signal handler."""


class Continued:
    """fleet had been stopped (Ctrl-Z) and goes on: put on the queue by the handler of SIGCONT."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """A visit's future is done."""

    task: HostTask
    future: "Future[HostOutcome]"


Item = Event | Turned | Continued | _Ended


class Engine:
    """One run. `inbox` may be written to by any thread and by a signal handler (`SimpleQueue.put` is reentrant)."""

    def __init__(
        self,
        *,
        visits: Visits,
        executor: Executor,
        task_of: Callable[[Visit, RolloutStatus], HostTask],
        clock: Clock,
        observers: Sequence[Observer] = (),
        heartbeat: Heartbeat | None = None,
        slept: Callable[[], float] = slept_s,
        monotonic: Callable[[], float] = time.monotonic,
        journal: Journal | None = None,
        needs_journal: bool = True,
    ) -> None:
        self.inbox: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._visits = visits
        self._executor = executor
        self._task_of = task_of
        self._clock = clock
        self._observers = list(observers)
        self._heartbeat = heartbeat
        self._slept = slept
        self._slept_s = slept()
        self._monotonic = monotonic
        self._looked_s = monotonic()
        self._was_stopped = False
        self._journal = journal
        self._needs_journal = needs_journal
        self._status = RolloutStatus()
        self._bugs: list[BaseException] = []
        self._turned = 0
        self._leave_at: datetime | None = None

    def run(self, decide: Decide, start: RolloutStatus, message: str = "", **data: Any) -> RolloutStatus:
        """The status at the end, which is `Stage.ENDED`. Raises what a visit raised, after all others have ended."""
        self._status = RolloutStatus(rollout=start.rollout)
        try:
            for event in initial_events(start, self._clock(), message, data):
                self._fold(event)
            finish, wait_s = self._carry_out(decide)
            while finish is None:
                self._take(wait_s)
                finish, wait_s = self._carry_out(decide)
        except BaseException:
            self._visits.request_stop(self._status.rollout)
            raise
        data = {"result": finish.result.value, "exit_code": finish.exit_code, "counts": self._status.counts}
        self._say(Emit(EventType.ROLLOUT_ENDED, message=finish.message, data=data))
        if self._bugs:
            raise self._bugs[0]
        return self._status

    def _carry_out(self, decide: Decide) -> tuple[Finish | None, float]:
        """Carry out the actions that are open, until one must wait for a visit or for time."""
        while True:
            now = self._clock()
            actions = decide(self._status, now)
            said = False
            wait_s = TICK_S
            for action in actions:
                match action:
                    case Finish():
                        return action, 0.0
                    case Emit():
                        self._say(action)
                        said = True
                    case Visit():
                        self._begin(action)
                    case Wait():
                        wait_s = min(wait_s, max((action.until - now).total_seconds(), 0.0))
            if said:
                continue
            if self._leave_at is not None and now >= self._leave_at:
                return results.stopped(self._status, resumable=self._journal is not None), 0.0
            return None, wait_s

    def _say(self, action: Emit) -> None:
        self._fold(action.event(self._clock(), self._status.rollout))

    def _begin(self, action: Visit) -> None:
        """The visit is in the journal, and then begun; neither once the journal is lost."""
        task = self._task_of(action, self._status)
        started = self._of_visit(task, EventType.VISIT_STARTED)
        self._write(started)
        if self._status.journal_lost is not None:
            return
        self._show(started)
        future = self._executor.submit(self._visits.visit, task, self.inbox.put)
        future.add_done_callback(partial(self._ended, task))

    def _ended(self, task: HostTask, future: "Future[HostOutcome]") -> None:
        self.inbox.put(_Ended(task, future))

    def _take(self, wait_s: float) -> None:
        """Fold all that came, waiting at most `wait_s` for the first."""
        try:
            item = self.inbox.get(timeout=max(wait_s, 0.001))
            while True:
                self._accept(item)
                item = self.inbox.get_nowait()
        except queue.Empty:
            pass
        self._mind_naps()
        self._beat()
        if self._heartbeat is not None:
            self._heartbeat(self._status, self._clock())

    def _mind_naps(self) -> None:
        """A laptop that slept, or whose fleet was stopped (Ctrl-Z), turns back: `fleet resume` looks at every host before
        it moves any. That this loop was late alone means nothing: two hundred logins at once may keep it waiting.
        """
        before_s, self._slept_s = self._slept_s, self._slept()
        last_s, self._looked_s = self._looked_s, self._monotonic()
        stopped_s = self._looked_s - last_s - TICK_S if self._was_stopped else 0.0
        self._was_stopped = False
        nap_s = max(self._slept_s - before_s, stopped_s)
        if nap_s > NAP_S and not self._turned:
            self._turn_back(f"this machine slept, or fleet was stopped, for {nap_s:.0f} s; ")

    def _accept(self, item: Item) -> None:
        match item:
            case Turned():
                self._turn_back()
            case Continued():
                self._was_stopped = True
            case Event():
                if item.type not in (EventType.VISIT_STARTED, EventType.VISIT_ENDED):
                    self._fold(item)
            case _Ended():
                self._fold(self._outcome(item))

    def _outcome(self, ended: _Ended) -> Event:
        """The end of a visit. What it raises is a bug in fleet: nothing new is begun, and it is raised at the end."""
        bug = ended.future.exception()
        if bug is None:
            return self._of_visit(ended.task, EventType.VISIT_ENDED, ended.future.result())
        self._bugs.append(bug)
        self._say(
            Emit(EventType.NOTE, note=Note.FLEET_BUG, message=f"a bug in fleet: {bug!r}. No further host is begun.")
        )
        host = ended.task.host.name
        lost = HostOutcome(
            host, Outcome.LINK_LOST, Note.FLEET_BUG.value, f"the visit broke off by a bug in fleet: {bug!r}"
        )
        return self._of_visit(ended.task, EventType.VISIT_ENDED, lost)

    def _of_visit(self, task: HostTask, kind: EventType, outcome: HostOutcome | None = None) -> Event:
        data: dict[str, Any] = {"ask": task.request.ask.value}
        if task.request.ask is Ask.STAGE:
            data["staged"] = bool(task.request.allowed)
        if outcome is not None and outcome.remedy:
            data["remedy"] = outcome.remedy
        return Event(
            at=self._clock(),
            rollout=self._status.rollout,
            type=kind,
            host=task.host.name,
            batch=task.batch,
            outcome=outcome.outcome if outcome else None,
            reason=outcome.reason if outcome else None,
            message=outcome.message if outcome else "",
            took_s=outcome.took_s if outcome else None,
            report=outcome.report if outcome else None,
            data=data,
        )

    def _turn_back(self, why: str = "") -> None:
        self._turned += 1
        if self._turned == 1:
            text = f"{why}turning back: no new host is begun, running ones go to their nearest resting phase"
            self._say(Emit(EventType.NOTE, note=Note.INTERRUPTED, message=text))
            self._visits.request_stop(self._status.rollout)
        elif self._turned == 2:
            self._say(Emit(EventType.NOTE, note=Note.LINKS_CUT, message="leaving now: every link is cut"))
            self._visits.cut_all()
            self._leave_at = self._clock() + timedelta(seconds=CUT_PATIENCE_S)

    def _fold(self, event: Event) -> None:
        self._write(event)
        self._show(event)

    def _write(self, event: Event) -> None:
        """The event is in the journal. What has happened is folded also when it can't be written; that is told first."""
        if self._journal is None:
            return
        try:
            self._journal.append(event)
        except JournalError as error:
            self._lose_journal(error, self._goes_on_alone or event.type is EventType.ROLLBACK_STARTED)

    def _beat(self) -> None:
        if self._journal is None:
            return
        try:
            self._journal.beat()
        except JournalError as error:
            self._lose_journal(error, self._goes_on_alone)
        except LockHeld as error:
            if self._goes_on_alone:
                self._say(Emit(EventType.NOTE, message=f"{error.message}. What takes hosts back goes on."))
                return
            self._say(Emit(EventType.NOTE, note=Note.LOCK_TAKEN_OVER, message=error.message))
            self._visits.request_stop(self._status.rollout)

    @property
    def _goes_on_alone(self) -> bool:
        """Whether hosts are being taken back: that waits for no journal and for nobody."""
        return not self._needs_journal or self._status.stage is Stage.ROLLING_BACK

    def _lose_journal(self, error: JournalError, goes_on: bool) -> None:
        """Nothing more is written, and nothing new begun that has to be."""
        self._journal = None
        if goes_on:
            text = f"{error.message} What takes hosts back goes on without it."
            self._say(Emit(EventType.NOTE, message=text))
            return
        text = f"{error.message} No new host is begun, running ones go to their nearest resting phase."
        self._say(Emit(EventType.NOTE, note=Note.JOURNAL_LOST, message=text, data={"why": error.message}))
        self._visits.request_stop(self._status.rollout)

    def _show(self, event: Event) -> None:
        self._status = fold(self._status, event)
        for observe in tuple(self._observers):
            try:
                observe(event, self._status)
            except OSError as error:
                self._observers.remove(observe)
                self._say(Emit(EventType.NOTE, message=f"events can't be written any more: {error}. The run goes on."))
