"""One visit to one host: connects, uploads what the host lacks, sends the request and passes on the host's replies.

Visits of one process to one host share a conversation (`conversation.py`), one after the other.

`visit` is a plain function of plain data, so that any `concurrent.futures.Executor` can run it. It never raises for a
host's failure: that is an outcome. Before the request is sent nothing can have happened on the host (UNREACHABLE,
REFUSED); afterwards only the host can say (LINK_LOST).

The step script acts only while it receives beats. `request_stop` turns the beats of a rollout's visits into `stop`, and
each visit ends in the nearest resting phase. `cut_all` closes every connection, and the hosts do the same by themselves.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleet.events import Event, EventType, Sink
from fleet.onhost.protocol import BEAT, STOP, Ask, Finding, Outcome, Reply, ReplyType, Request, Rest, Step
from fleet.onhost.text import safe
from fleet.ssh.conversation import Conversation
from fleet.ssh.delivery.bundle import Bundle, bundles
from fleet.ssh.kept_open import KEPT_OPEN
from fleet.ssh.link_errors import HostRefused, LinkError
from fleet.ssh.replies import check_consistency, event_fields, finding_of
from fleet.ssh.transport.bastion import close_bastions
from fleet.task import HostOutcome, HostTask

RELEASE_MISSING = "release_missing"


def visit(task: HostTask, sink: Sink, available: Mapping[str, Bundle] | None = None) -> HostOutcome:
    """The outcome of the visit. Its events go to `sink`. `available`: the bundles to choose from, given by tests only."""
    began_at = time.monotonic()
    visiting = _Visit(task, sink, bundles() if available is None else available)
    _RUNNING.add(visiting)
    visiting.emit(EventType.VISIT_STARTED)
    try:
        outcome = visiting.run()
    except HostRefused as refusal:
        outcome = _outcome_of(task, Outcome.REFUSED, refusal)
    except LinkError as failure:
        outcome = _outcome_of(task, Outcome.LINK_LOST if visiting.sent else Outcome.UNREACHABLE, failure)
    finally:
        visiting.close()
        _RUNNING.remove(visiting)
    took_s = time.monotonic() - began_at
    visiting.emit(
        EventType.VISIT_ENDED,
        outcome=outcome.outcome,
        reason=outcome.reason,
        message=outcome.message,
        report=outcome.report,
        took_s=took_s,
        data={"remedy": outcome.remedy} if outcome.remedy else {},
    )
    return replace(outcome, took_s=took_s)


def request_stop(rollout: str) -> None:
    """Ends the running visits of this rollout in the nearest resting phase; later visits of it are refused."""
    _RUNNING.stop(rollout)


def forget_stop(rollout: str) -> None:
    """Lets visits of this rollout act again: a rollback runs under the id of the rollout that it undoes."""
    _RUNNING.forget(rollout)


def cut_all() -> None:
    """Closes every connection of this process. The hosts end in a resting phase by themselves."""
    _RUNNING.cut()
    close_kept()


def close_kept() -> None:
    """Closes the connections that no visit uses now: those that are kept for the next visits, and those to bastions."""
    KEPT_OPEN.close()
    close_bastions()


class _Running:
    """The visits of this process, so that the main thread can stop them or cut their connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._visits: set[_Visit] = set()
        self._stopped: set[str] = set()

    def add(self, visiting: "_Visit") -> None:
        with self._lock:
            self._visits.add(visiting)

    def remove(self, visiting: "_Visit") -> None:
        with self._lock:
            self._visits.discard(visiting)

    def stop(self, rollout: str) -> None:
        with self._lock:
            self._stopped.add(rollout)

    def forget(self, rollout: str) -> None:
        with self._lock:
            self._stopped.discard(rollout)

    def is_stopped(self, rollout: str) -> bool:
        with self._lock:
            return rollout in self._stopped

    def cut(self) -> None:
        with self._lock:
            running = tuple(self._visits)
        for visiting in running:
            visiting.cut()


_RUNNING = _Running()


class _Visit:
    """One visit under way. `sent`: something may have happened on the host that fleet has not heard of."""

    def __init__(self, task: HostTask, sink: Sink, available: Mapping[str, Bundle]) -> None:
        self.task = task
        self.sent = False
        self._sink = sink
        self._available = available
        self._conversation: Conversation | None = None
        self._is_cut = False
        self._findings: list[Finding] = []
        self._buffered: list[Event] | None = None

    def run(self) -> HostOutcome:
        """The outcome as the host reported it. Raises `LinkError`, `HostRefused`."""
        self.proceed()
        conversation = self._opened()
        # If the first answer only asks for the release, the second one repeats all of its events.
        self._buffered = [] if self.request.ask is Ask.STAGE and self.task.release_path else None
        final = self._ask(conversation)
        if final.outcome is Outcome.REFUSED and final.reason == RELEASE_MISSING and self.task.release_path:
            self._buffered = None
            self._findings.clear()
            self._upload_release(conversation, Path(self.task.release_path))
            final = self._ask(conversation)
        self._emit_buffered()
        self._keep(conversation)
        return HostOutcome(
            self.task.host.name,
            final.outcome or Outcome.FAILED,
            final.reason,
            final.message,
            final.remedy,
            final.report,
            tuple(self._findings),
        )

    def _opened(self) -> Conversation:
        """The conversation that is kept with this host, if it answers; else a new one. Raises `LinkError`."""
        kept = KEPT_OPEN.take(self._host)
        if kept is not None:
            self._hold(kept)
            kept.notify = self._note
            if kept.is_ready():
                return kept
            kept.close()
            self.proceed()
        made = Conversation(self.task, self._available, self._note)
        self._hold(made)
        made.link.open()
        return made

    def _hold(self, conversation: Conversation) -> None:
        """From now on `cut` closes it."""
        self._conversation = conversation
        if self._is_cut:
            conversation.close()

    def _keep(self, conversation: Conversation) -> None:
        """Keeps the conversation for the next visit to this host, if the operator allows any."""
        most = self.task.connecting.keep_open
        if most and not self._is_cut and conversation.is_kept():
            self._conversation = None
            KEPT_OPEN.keep(self._host, conversation, most)

    @property
    def _host(self) -> tuple[Any, ...]:
        return self.task.host, self.task.connecting

    def close(self) -> None:
        """Closes the conversation, unless it is kept."""
        if self._conversation is not None:
            self._conversation.close()

    def cut(self) -> None:
        """Closes the conversation under the visit, which ends with an error."""
        self._is_cut = True
        self.close()

    def _upload_release(self, conversation: Conversation, release: Path) -> None:
        goal = self.request.goal
        if goal is None:
            raise ValueError("a host asked for a release that the request does not name")
        conversation.upload_release(release, goal.target, self.proceed)

    def _ask(self, conversation: Conversation) -> Reply:
        """The outcome reply of the step script. Its other replies are passed on as events."""
        answer = conversation.ask(self)
        check_consistency(answer, self.request)
        self.sent = False
        return answer

    def emit(self, kind: EventType, **values: Any) -> None:
        """Puts an event of this visit into the sink."""
        self._sink(self._event(type=kind, **values))

    def _event(self, **values: Any) -> Event:
        task = self.task
        return Event(at=_now(), rollout=task.request.rollout, host=task.host.name, batch=task.batch, **values)

    def _note(self, reason: str | None, message: str, **values: Any) -> None:
        self.emit(EventType.NOTE, reason=reason, message=message, **values)

    # What `one_request.ask` needs of a visit

    @property
    def request(self) -> Request:
        return self.task.request

    def proceed(self) -> None:
        """Raises `HostRefused` when the operator has stopped the rollout."""
        if _RUNNING.is_stopped(self.request.rollout):
            raise HostRefused("stopped", "The rollout was stopped before this host got a request.", "Run fleet status.")

    def beat(self) -> str:
        """`stop` when the operator has stopped the rollout."""
        return STOP if _RUNNING.is_stopped(self.request.rollout) else BEAT

    def take(self, reply: Reply) -> None:
        """Keeps a finding, and passes the reply on as an event."""
        if reply.type is ReplyType.FINDING:
            self._findings.append(finding_of(reply))
        fields = event_fields(reply)
        if fields is not None:
            event = self._event(**fields)
            if self._buffered is None:
                self._sink(event)
            else:
                self._buffered.append(event)

    def _emit_buffered(self) -> None:
        for event in self._buffered or ():
            self._sink(event)
        self._buffered = None

    @property
    def pause_s(self) -> float:
        """The longest pause between two replies, in seconds. `verify` settles and probes as long as the options say;
        `retire` may wait for the old master's last connections."""
        request, options = self.task.request, self.task.request.options
        held = request.goal is not None and request.goal.rest is Rest.HELD
        drains_s = options.drain_timeout_s if Step.RETIRE in request.allowed and not held else 0.0
        # Each probe is sent twice, and if it fails also to the other generation and once more to each; its timeout holds
        # once for the connection and once for the answer.
        verifies_s = options.settle_s + 10 * sum(probe.timeout_s for probe in options.probes)
        return self.task.deadlines.silence_s + max(drains_s, verifies_s)


def _outcome_of(task: HostTask, outcome: Outcome, failure: LinkError) -> HostOutcome:
    return HostOutcome(task.host.name, outcome, failure.reason, safe(failure.message), safe(failure.remedy))


def _now() -> datetime:
    return datetime.now(UTC)
