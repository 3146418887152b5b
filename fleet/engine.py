"""Carries decisions out: hands visits to an executor, folds the events that come back, and asks for the next actions.

One thread owns the state. Visits run in the executor's workers and put their events on one queue. This thread alone
takes them off, writes them to the journal, folds them and passes them to the observers. It never prints and never decides.
A visit is a plain function of plain data, so processes or workers near the hosts can replace the threads.

All that happened since the last turn is folded, then the next actions are decided; then the events and the starts of the
next visits go to the journal in one transaction. So an event is on the disk before anyone sees it and before a visit
follows from it, and the start of a visit before the visit begins. A run that is killed in between has done nothing that its
journal does not hold. If the journal can't be written, or another run has taken its lock, the run stops. Only a rollback
continues without the journal.
"""

import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from fleet.clock import Clock, slept_s
from fleet.errors import JournalError, LockHeld
from fleet.events import Event, EventType, Note, Sink
from fleet.onhost.protocol import Ask, Outcome
from fleet.onhost.text import sentences
from fleet.rollout import results
from fleet.rollout.actions import BeginVisit, Decide, Emit, Finish, Wait
from fleet.rollout.initial_events import initial_events
from fleet.rollout.rollout_status import RolloutStatus, Stage, fold
from fleet.task import HostOutcome, HostTask

TICK_S = 0.25
LONGEST_SLEEP_S = 5.0
"""A machine that slept longer counts as interrupted: its connections are dead and the hosts' leases may have expired."""
CUT_TIMEOUT_S = 10.0

Observer = Callable[[Event, RolloutStatus], None]
Heartbeat = Callable[[RolloutStatus, datetime], None]


class Journal(Protocol):
    """What a run writes to. `append_all` returns once the events are on disk, all or none of them; `beat` is called often
    and keeps the lock.

    Both raise `JournalError` if the journal can't be written. `beat` raises `LockHeld` if another run has taken the lock.
    """

    def append_all(self, events: Sequence[Event]) -> None: ...

    def beat(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Visits:
    """The way to the hosts. `request_stop(rollout)` ends its visits in the nearest resting phase; `cut_all` ends them now.

    `close` is called once no visit runs. It closes the connections that visits share.
    """

    visit: Callable[[HostTask, Sink], HostOutcome]
    request_stop: Callable[[str], None]
    cut_all: Callable[[], None]
    close: Callable[[], None] = lambda: None


class StopRequested:
    """The operator pressed Ctrl-C or sent SIGTERM. A signal handler puts it on the queue."""


class ProcessContinued:
    """fleet was suspended (Ctrl-Z) and continues. The handler of SIGCONT puts it on the queue."""


@dataclass(frozen=True, slots=True)
class _VisitDone:
    """A visit's future is done."""

    task: HostTask
    future: "Future[HostOutcome]"


InboxItem = Event | StopRequested | ProcessContinued | _VisitDone


class Engine:
    """One run. Any thread and any signal handler may write to `inbox` (`SimpleQueue.put` is reentrant)."""

    def __init__(
        self,
        *,
        visits: Visits,
        executor: Executor,
        task_of: Callable[[BeginVisit, RolloutStatus], HostTask],
        clock: Clock,
        observers: Sequence[Observer] = (),
        heartbeat: Heartbeat | None = None,
        slept: Callable[[], float] = slept_s,
        monotonic: Callable[[], float] = time.monotonic,
        journal: Journal | None = None,
        needs_journal: bool = True,
    ) -> None:
        self.inbox: queue.SimpleQueue[InboxItem] = queue.SimpleQueue()
        self._visits = visits
        self._executor = executor
        self._task_of = task_of
        self._clock = clock
        self._observers = list(observers)
        self._heartbeat = heartbeat or (lambda status, now: None)
        self._slept = slept
        self._slept_s = slept()
        self._monotonic = monotonic
        self._checked_s = monotonic()
        self._was_suspended = False
        self._journal = journal
        self._needs_journal = needs_journal
        self._status = RolloutStatus()
        self._untold: list[tuple[Event, RolloutStatus]] = []
        """What was folded and is neither written nor shown yet, each event with the status after it."""
        self._bugs: list[BaseException] = []
        self._stop_requests = 0
        self._leave_at: datetime | None = None

    def run(self, decide: Decide, start: RolloutStatus, message: str = "", **data: Any) -> RolloutStatus:
        """The status at the end, in `Stage.ENDED`. Raises what a visit raised, after all other visits have ended."""
        self._status = RolloutStatus(rollout=start.rollout)
        try:
            for event in initial_events(start, self._clock(), message, data):
                self._fold(event)
            finish, wait_s = self._carry_out(decide)
            while finish is None:
                self._heartbeat(self._status, self._clock())
                self._fold_inbox(wait_s)
                finish, wait_s = self._carry_out(decide)
        except BaseException:
            self._visits.request_stop(self._status.rollout)
            self._publish()
            raise
        self._end(finish)
        if self._bugs:
            raise self._bugs[0]
        return self._status

    def _end(self, finish: Finish) -> None:
        data = {"result": finish.result.value, "exit_code": finish.exit_code, "counts": self._status.counts}
        self._emit(Emit(EventType.ROLLOUT_ENDED, message=finish.message, data=data))
        self._publish()

    def _carry_out(self, decide: Decide) -> tuple[Finish | None, float]:
        """Carries out the open actions until the run must wait for a visit or for time. Gives the end, or seconds to wait."""
        while True:
            now = self._clock()
            actions = decide(self._status, now)
            finish, emitted, wait_s = None, False, TICK_S
            visits: list[BeginVisit] = []
            for action in actions:
                match action:
                    case Finish():
                        finish = action
                    case Emit():
                        self._begin(visits)
                        self._emit(action)
                        emitted, visits = True, []
                    case BeginVisit():
                        visits.append(action)
                    case Wait():
                        wait_s = min(wait_s, max((action.until - now).total_seconds(), 0.0))
            self._begin(visits)
            if emitted or not self._publish():  # Without its journal the run may end in another way.
                continue
            if finish is not None:
                return finish, 0.0
            if self._leave_at is not None and now >= self._leave_at:
                return results.stopped(self._status, resumable=self._journal is not None), 0.0
            return None, wait_s

    def _emit(self, action: Emit) -> None:
        self._fold(action.event(self._clock(), self._status.rollout))

    def _begin(self, visits: Sequence[BeginVisit]) -> None:
        """Writes the starts of the visits to the journal, then begins them. Begins none once the journal is lost."""
        if not visits:
            return
        tasks = [self._task_of(visit, self._status) for visit in visits]
        starts = [self._of_visit(task, EventType.VISIT_STARTED) for task in tasks]
        self._publish(starts)
        if self._status.journal_lost is not None:
            return
        for task, started in zip(tasks, starts, strict=True):
            self._status = fold(self._status, started)
            self._show(started, self._status)
            future = self._executor.submit(self._visits.visit, task, self.inbox.put)
            future.add_done_callback(partial(self._visit_done, task))

    def _visit_done(self, task: HostTask, future: "Future[HostOutcome]") -> None:
        self.inbox.put(_VisitDone(task, future))

    def _fold_inbox(self, wait_s: float) -> None:
        """Folds everything in the inbox, waiting at most `wait_s` seconds for the first item."""
        try:
            item = self._clock.wait(self.inbox, max(wait_s, 0.001), self._status.busy)
            while True:
                self._accept(item)
                item = self.inbox.get_nowait()
        except queue.Empty:
            pass
        self._check_for_sleep()
        self._beat()

    def _check_for_sleep(self) -> None:
        """Stops the run after a sleep or a Ctrl-Z; `fleet resume` then looks at every host before it moves any.

        A late loop alone is no sign of sleep: two hundred logins at once may delay it.
        """
        before_s, self._slept_s = self._slept_s, self._slept()
        last_s, self._checked_s = self._checked_s, self._monotonic()
        suspended_s = self._checked_s - last_s - TICK_S if self._was_suspended else 0.0
        self._was_suspended = False
        gap_s = max(self._slept_s - before_s, suspended_s)
        if gap_s > LONGEST_SLEEP_S and not self._stop_requests:
            self._stop(f"this machine slept, or fleet was suspended, for {gap_s:.0f} s")

    def _accept(self, item: InboxItem) -> None:
        match item:
            case StopRequested():
                self._stop()
            case ProcessContinued():
                self._was_suspended = True
            case Event():
                if item.type not in (EventType.VISIT_STARTED, EventType.VISIT_ENDED):
                    self._fold(item)
            case _VisitDone():
                self._fold(self._outcome(item))

    def _outcome(self, ended: _VisitDone) -> Event:
        """The end of a visit. An exception is a bug in fleet: no further host is begun, and `run` raises it at the end."""
        bug = ended.future.exception()
        if bug is None:
            return self._of_visit(ended.task, EventType.VISIT_ENDED, ended.future.result())
        self._bugs.append(bug)
        self._emit(
            Emit(EventType.NOTE, note=Note.FLEET_BUG, message=f"Bug in fleet: {bug!r}. No further host is begun.")
        )
        host = ended.task.host.name
        lost = HostOutcome(
            host, Outcome.LINK_LOST, Note.FLEET_BUG.value, f"The visit was cut off by a bug in fleet: {bug!r}."
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

    def _stop(self, why: str = "") -> None:
        self._stop_requests += 1
        if self._stop_requests == 1:
            text = f"Interrupted{why and ', ' + why}: no new host is begun; running visits end in the nearest resting phase."
            self._emit(Emit(EventType.NOTE, note=Note.INTERRUPTED, message=text))
            self._visits.request_stop(self._status.rollout)
        elif self._stop_requests == 2:
            self._emit(
                Emit(EventType.NOTE, note=Note.LINKS_CUT, message="Interrupted again: all connections are cut now.")
            )
            self._visits.cut_all()
            self._leave_at = self._clock() + timedelta(seconds=CUT_TIMEOUT_S)

    def _fold(self, event: Event) -> None:
        """Folds the event, which `_publish` then writes and shows."""
        self._status = fold(self._status, event)
        self._untold.append((event, self._status))

    def _publish(self, starts: Sequence[Event] = ()) -> bool:
        """Writes what was folded, and these starts of visits, in one transaction; then shows what was folded.

        Gives `False` if the journal is lost now.
        """
        untold, self._untold = self._untold, []
        is_written = self._write([*(event for event, _ in untold), *starts])
        for event, status in untold:
            self._show(event, status)
        if self._untold:  # Notes: the journal is lost, or an observer can't write.
            self._publish()
        return is_written

    def _write(self, events: Sequence[Event]) -> bool:
        if self._journal is None or not events:
            return True
        try:
            self._journal.append_all(events)
        except JournalError as error:
            self._lose_journal(error)
            return False
        return True

    def _beat(self) -> None:
        if self._journal is None:
            return
        try:
            self._journal.beat()
        except JournalError as error:
            self._lose_journal(error)
        except LockHeld as error:
            if self._continues_without_journal:
                text = sentences(f"Warning: {error.message}", "The rollback continues without the lock.")
                self._emit(Emit(EventType.NOTE, message=text))
                return
            self._emit(Emit(EventType.NOTE, note=Note.LOCK_TAKEN_OVER, message=error.message))
            self._visits.request_stop(self._status.rollout)

    @property
    def _continues_without_journal(self) -> bool:
        """Whether the run is a rollback, which waits for neither the journal nor its lock."""
        return not self._needs_journal or self._status.stage is Stage.ROLLING_BACK

    def _lose_journal(self, error: JournalError) -> None:
        """Writes nothing more. Unless the run goes on without, no new host is begun."""
        self._journal = None
        if self._continues_without_journal:
            text = f"Warning: {error.message} The rollback continues without it."
            self._emit(Emit(EventType.NOTE, message=text))
            return
        text = f"Halting: {error.message} No new host is begun; running visits end in the nearest resting phase."
        self._emit(Emit(EventType.NOTE, note=Note.JOURNAL_LOST, message=text, data={"why": error.message}))
        self._visits.request_stop(self._status.rollout)

    def _show(self, event: Event, status: RolloutStatus) -> None:
        for observe in tuple(self._observers):
            try:
                observe(event, status)
            except OSError as error:
                self._observers.remove(observe)
                text = f"Warning: Events can't be written: {error}. The run continues."
                self._emit(Emit(EventType.NOTE, message=text))
