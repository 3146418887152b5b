"""One visit to one host: connects, uploads what the host lacks, sends the request and passes on the host's replies.

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
from fleet.onhost.protocol import BEAT, END_MARK, STOP, Ask, Finding, Outcome, Reply, ReplyType, Rest, Step
from fleet.onhost.text import safe
from fleet.onhost.wire import encode
from fleet.ssh.delivery.bundle import GENERIC, Bundle, bundles, start_text
from fleet.ssh.delivery.provision import Provisioner, bundle_failed, refuse_unstarted
from fleet.ssh.delivery.rate_limit import shared_rate
from fleet.ssh.link_errors import HostRefused, LinkError
from fleet.ssh.remote.command import MAX_REPLIES, PULSE_S, too_much
from fleet.ssh.remote.root_command import RootCommand
from fleet.ssh.remote.start_line import MISSING, Platform
from fleet.ssh.replies import check_consistency, event_fields, finding_of, read_reply
from fleet.ssh.transport.bastion import close_bastions
from fleet.ssh.transport.connection import Link
from fleet.task import HostOutcome, HostTask

RELEASE_MISSING, PSUTIL_MISSING = "release_missing", "psutil_missing"
END = END_MARK.encode("ascii")
MAX_PAUSES = 6
"""A whole answer may take this many times the longest pause between two replies. A real one has one or two long steps."""


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
        visiting.link.close()
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
            visiting.link.close()


_RUNNING = _Running()


class _Visit:
    """One visit under way. `sent`: something may have happened on the host that fleet has not heard of."""

    def __init__(self, task: HostTask, sink: Sink, available: Mapping[str, Bundle]) -> None:
        self.task = task
        self.link = Link(task.host, task.deadlines, task.connecting, notify=self._note)
        connecting = task.connecting
        self._provisioner = Provisioner(
            self.link, available, self._note, connecting.transfer, shared_rate(connecting.limit_rate)
        )
        self.sent = False
        self._sink = sink
        self._findings: list[Finding] = []
        self._buffered: list[Event] | None = None
        self._beat_at = 0.0
        self._asked_at = 0.0
        self._replies = 0

    def run(self) -> HostOutcome:
        """The outcome as the host reported it. Raises `LinkError`, `HostRefused`."""
        self._refuse_if_stopped()
        self.link.open()
        # If the first answer only asks for the release, the second one repeats all of its events.
        self._buffered = [] if self.task.request.ask is Ask.STAGE and self.task.release_path else None
        final = self._ask()
        if final.outcome is Outcome.REFUSED and final.reason == RELEASE_MISSING and self.task.release_path:
            self._buffered = None
            self._findings.clear()
            self._upload_release(Path(self.task.release_path))
            final = self._ask()
        self._emit_buffered()
        return HostOutcome(
            self.task.host.name,
            final.outcome or Outcome.FAILED,
            final.reason,
            final.message,
            final.remedy,
            final.report,
            tuple(self._findings),
        )

    def _upload_release(self, release: Path) -> None:
        goal = self.task.request.goal
        if goal is None:
            raise ValueError("a host asked for a release that the request does not name")
        self._provisioner.upload_release(release, goal.target, self._refuse_if_stopped)

    def emit(self, kind: EventType, **values: Any) -> None:
        """Puts an event of this visit into the sink."""
        self._sink(self._event(type=kind, **values))

    def _event(self, **values: Any) -> Event:
        task = self.task
        return Event(at=_now(), rollout=task.request.rollout, host=task.host.name, batch=task.batch, **values)

    def _note(self, reason: str | None, message: str, **values: Any) -> None:
        self.emit(EventType.NOTE, reason=reason, message=message, **values)

    # The conversation

    def _ask(self) -> Reply:
        """The outcome reply of the step script. Its other replies are passed on as events."""
        answer = self._converse()
        if isinstance(answer, Reply) and answer.reason == PSUTIL_MISSING:
            answer = self._with_psutil(answer)
        if isinstance(answer, Platform):
            self._provisioner.upload_bundle(self._provisioner.bundle_for(answer), self._refuse_if_stopped)
            answer = self._converse()
        if isinstance(answer, Platform):
            raise bundle_failed("it was stored, and the next command did not find it")
        check_consistency(answer, self.task.request)
        self.sent = False
        if answer.reason == PSUTIL_MISSING:
            return answer._replace(message=f"{answer.message} {self._provisioner.no_psutil}".strip())
        return answer

    def _with_psutil(self, refused: Reply) -> Reply | Platform:
        """The host's answer without its generic bundle, which it may have from a run that could fetch no psutil.

        The answer is its platform then. For a platform without a wheel the refusal stands.
        """
        self.sent = False
        answer = self._converse(without=GENERIC) if self._provisioner.can_fetch else refused
        if isinstance(answer, Platform) and self._provisioner.bundle_for(answer).tag == GENERIC:
            return refused
        return answer

    def _converse(self, without: str = "") -> Reply | Platform:
        """The outcome reply, or the platform of a host that has no bundle yet."""
        self._refuse_if_stopped()
        command = RootCommand.run_bundle(self.link, self._provisioner.keys(without))
        if not command.begin(self._refuse_if_stopped):
            if command.platform is None:
                raise command.ended_early()
            command.close()
            return command.platform
        self._send_request(command)
        final: Reply | None = None
        for line in command.lines(lambda: self._beat(command)):
            if line == END and final is not None:
                command.close()
                return final
            if line.startswith(MISSING):
                break  # sudo or doas speaks again: the step script has ended
            refuse_unstarted(line)
            if line.strip():
                reply = self._parsed(line)
                if reply.type is not ReplyType.HELLO:
                    command.progressed()  # a step began or ended, or there is a finding
                final = self._take(reply, final)
        raise command.ended_early()

    def _send_request(self, command: RootCommand) -> None:
        self._refuse_if_stopped()
        self.sent = True
        self._asked_at = time.monotonic()
        command.send(start_text() + encode(self.task.request).encode("utf-8") + b"\n")
        self._beat_at = 0.0

    def _beat(self, command: RootCommand) -> float:
        """Sends a beat once a second. Returns how long the step script may take to its next reply, in seconds.

        Raises `LinkError` when it has taken too long for all of them.
        """
        now = time.monotonic()
        if now >= self._beat_at:
            word = STOP if _RUNNING.is_stopped(self.task.request.rollout) else BEAT
            command.send(word.encode("ascii") + b"\n")
            self._beat_at = now + PULSE_S
        pause_s = self._pause_s()
        if now - self._asked_at >= MAX_PAUSES * pause_s:
            raise LinkError(
                "endless",
                f"The step script sent replies for {MAX_PAUSES * pause_s:g} s and did not end.",
                "See what it does on the host (ps -ef | grep fleet.pyz); then run fleet status.",
            )
        return pause_s

    def _parsed(self, line: bytes) -> Reply:
        """The reply in a line. Raises `LinkError`: `garbled`, `too_much_output`."""
        self._replies += 1
        if self._replies > MAX_REPLIES:
            raise too_much()
        return read_reply(line)

    def _take(self, reply: Reply, final: Reply | None) -> Reply | None:
        """The outcome so far: this reply if it is one, else `final`. Events and findings are kept or passed on."""
        if reply.type is ReplyType.OUTCOME:
            return reply
        if reply.type is ReplyType.FINDING:
            self._findings.append(finding_of(reply))
        fields = event_fields(reply)
        if fields is not None:
            event = self._event(**fields)
            if self._buffered is None:
                self._sink(event)
            else:
                self._buffered.append(event)
        return final

    def _emit_buffered(self) -> None:
        for event in self._buffered or ():
            self._sink(event)
        self._buffered = None

    def _pause_s(self) -> float:
        """The longest pause between two replies, in seconds. `verify` settles and probes as long as the options say;
        `retire` may wait for the old master's last connections."""
        request, options = self.task.request, self.task.request.options
        held = request.goal is not None and request.goal.rest is Rest.HELD
        drains_s = options.drain_timeout_s if Step.RETIRE in request.allowed and not held else 0.0
        # Each probe is sent twice, and if it fails also to the other generation and once more to each; its timeout holds
        # once for the connection and once for the answer.
        verifies_s = options.settle_s + 10 * sum(probe.timeout_s for probe in options.probes)
        return self.task.deadlines.silence_s + max(drains_s, verifies_s)

    def _refuse_if_stopped(self) -> None:
        if _RUNNING.is_stopped(self.task.request.rollout):
            raise HostRefused("stopped", "The rollout was stopped before this host got a request.", "Run fleet status.")


def _outcome_of(task: HostTask, outcome: Outcome, failure: LinkError) -> HostOutcome:
    return HostOutcome(task.host.name, outcome, failure.reason, safe(failure.message), safe(failure.remedy))


def _now() -> datetime:
    return datetime.now(UTC)
