"""One visit to one host: connect, bring what is missing, ask for what is wanted, tell on what the host says.

`visit` is a plain function of plain data, so that any `concurrent.futures.Executor` can run it, and it never raises for
a host's trouble: that is an outcome. What matters most of a trouble is whether something can have happened on the host:
before the request is sent it can't (UNREACHABLE, REFUSED), afterwards only the host can say (LINK_LOST: ask again).

The step script acts only while it hears our beat. `request_stop` turns the beats of a rollout's visits into `stop`,
after which each ends in the nearest resting phase; `cut_all` closes every connection, after which the hosts do the same.
"""

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleet.events import Event, EventType, Sink
from fleet.onhost.protocol import BEAT, END_MARK, STOP, Ask, Finding, Outcome, Reply, ReplyType, Rest, Step, encode
from fleet.ssh.bastion import close_bastions
from fleet.ssh.become import begins, lines_as_root
from fleet.ssh.bundle import GENERIC, Bundle, Shelf, bundles, fitting, receive_text
from fleet.ssh.command import PULSE_S, Command
from fleet.ssh.connection import Link
from fleet.ssh.pack import packed
from fleet.ssh.rate import shared_rate
from fleet.ssh.reply import check_claims, event_of, finding_of, read_reply
from fleet.ssh.startline import MISSING, Platform, missing_platform, receive_line, run_line
from fleet.ssh.trouble import Refusal, Trouble, printable
from fleet.ssh.upload import Source, transferring, upload
from fleet.ssh.wheels import NoWheel
from fleet.task import HostOutcome, HostTask

# A login shell that reads slow files, and a Python that starts on a busy host.
START_S = 60.0
RELEASE_MISSING, PSUTIL_MISSING = "release_missing", "psutil_missing"
END = END_MARK.encode("ascii")

log = logging.getLogger("fleet.ssh")
log.addHandler(logging.NullHandler())


def visit(task: HostTask, sink: Sink, available: Mapping[str, Bundle] | None = None) -> HostOutcome:
    """What became of the visit; its events went to `sink`. `available` are the bundles to choose from (tests)."""
    began_at = time.monotonic()
    visiting = _Visit(task, sink, bundles() if available is None else available)
    _RUNNING.add(visiting)
    visiting.tell(EventType.VISIT_STARTED)
    try:
        outcome = visiting.run()
    except Refusal as refusal:
        outcome = _outcome_of(task, Outcome.REFUSED, refusal)
    except Trouble as trouble:
        outcome = _outcome_of(task, Outcome.LINK_LOST if visiting.sent else Outcome.UNREACHABLE, trouble)
    finally:
        visiting.link.close()
        _RUNNING.remove(visiting)
    took_s = time.monotonic() - began_at
    visiting.tell(
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
    """The running visits of this rollout end in the nearest resting phase, and no other one of it acts any more."""
    _RUNNING.stop(rollout)


def forget_stop(rollout: str) -> None:
    """Visits of this rollout may act again: a rollback goes on under the id of what it undoes."""
    _RUNNING.forget(rollout)


def cut_all() -> None:
    """Every connection of this process is closed: leave now, the hosts end in a resting phase by themselves."""
    _RUNNING.cut()
    close_bastions()


class _Running:
    """The visits of this process, so that the main thread can turn them back or cut them off."""

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
    """One visit under way. `sent` is whether something may have happened on the host that we have not heard of."""

    def __init__(self, task: HostTask, sink: Sink, available: Mapping[str, Bundle]) -> None:
        self.task = task
        self.link = Link(task.host, task.deadlines, task.connecting, tell=self._note)
        self.sent = False
        self._sink = sink
        self._bundles = available
        self._no_psutil = ""
        self._rate = shared_rate(task.connecting.limit_rate)
        self._findings: list[Finding] = []
        self._held_back: list[Event] | None = None
        self._beat_at = 0.0

    def run(self) -> HostOutcome:
        """The outcome as the host told it. Raises `Trouble`, `Refusal`."""
        self._refuse_if_stopped()
        self.link.open()
        # A first answer that only asks for the release is not worth telling: the second one says it all again.
        self._held_back = [] if self.task.request.ask is Ask.STAGE and self.task.release_path else None
        final = self._ask()
        if final.outcome is Outcome.REFUSED and final.reason == RELEASE_MISSING and self.task.release_path:
            self._held_back = None
            self._findings.clear()
            self._bring_release(Path(self.task.release_path))
            final = self._ask()
        self._let_go()
        return HostOutcome(
            self.task.host.name,
            final.outcome or Outcome.FAILED,
            final.reason,
            final.message,
            final.remedy,
            final.report,
            tuple(self._findings),
        )

    def tell(self, kind: EventType, **values: Any) -> None:
        """An event of this visit is put into the sink."""
        task = self.task
        self._sink(
            Event(at=_now(), rollout=task.request.rollout, type=kind, host=task.host.name, batch=task.batch, **values)
        )

    def _note(self, reason: str, message: str) -> None:
        self.tell(EventType.NOTE, reason=reason, message=message)

    # The conversation

    def _ask(self) -> Reply:
        """The last reply of the step script to the request, its other ones told on."""
        answer = self._converse()
        if isinstance(answer, Reply) and answer.reason == PSUTIL_MISSING:
            answer = self._with_psutil(answer)
        if isinstance(answer, Platform):
            self._bring_bundle(self._bundle_for(answer))
            answer = self._converse()
        if isinstance(answer, Platform):
            raise _bundle_failed("it was stored and is not found there")
        check_claims(answer, self.task.request)
        self.sent = False
        if answer.reason == PSUTIL_MISSING:
            return answer._replace(message=f"{answer.message} {self._no_psutil}".strip())
        return answer

    def _with_psutil(self, refused: Reply) -> Reply | Platform:
        """What the host says when its bundle without psutil, from a day when none could be fetched, doesn't count.

        It says its platform then; for one that has no wheel the refusal stands.
        """
        self.sent = False
        answer = self._converse(without=GENERIC) if isinstance(self._bundles, Shelf) else refused
        if isinstance(answer, Platform) and self._bundle_for(answer).tag == GENERIC:
            return refused
        return answer

    def _converse(self, without: str = "") -> Reply | Platform:
        """The outcome that the step script gave, or the platform of a host that has no bundle yet."""
        self._refuse_if_stopped()
        bundles = sorted(self._bundles.values(), key=lambda each: each.tag == GENERIC)
        keys = tuple(bundle.key for bundle in bundles if bundle.tag != without)
        command = Command(self.link, run_line(self.task.host, keys))
        begun = False
        final: Reply | None = None
        for line in lines_as_root(command, self.task.host, lambda: self._beat(command)):
            if not begun:
                platform = missing_platform(line)
                if platform is not None:
                    command.close()
                    return platform
                begun = begins(line, command)
                if begun:
                    self._send_request(command)
                continue
            if line == END and final is not None:
                command.close()
                return final
            if line.startswith(MISSING):
                break  # sudo came back: the step script has ended
            if line.strip():
                final = self._take(read_reply(line), final)
        raise _ended_early(self.link, command, begun)

    def _send_request(self, command: Command) -> None:
        self._refuse_if_stopped()
        self.sent = True
        command.send(encode(self.task.request).encode("utf-8") + b"\n")
        self._beat_at = 0.0

    def _beat(self, command: Command) -> float:
        """The step script hears from us at least once a second, once it has its request. Returns how long it may be silent."""
        now = time.monotonic()
        if self.sent and now >= self._beat_at:
            word = STOP if _RUNNING.is_stopped(self.task.request.rollout) else BEAT
            command.send(word.encode("ascii") + b"\n")
            self._beat_at = now + PULSE_S
        return self._silence_s() if self.sent else START_S

    def _take(self, reply: Reply, final: Reply | None) -> Reply | None:
        """The outcome so far: this reply, if it is one, else what it was. Events and findings are kept or told on."""
        if reply.type is ReplyType.OUTCOME:
            return reply
        if reply.type is ReplyType.FINDING:
            self._findings.append(finding_of(reply))
        event = event_of(reply, self.task, _now)
        if event is not None:
            if self._held_back is None:
                self._sink(event)
            else:
                self._held_back.append(event)
        return final

    def _let_go(self) -> None:
        for event in self._held_back or ():
            self._sink(event)
        self._held_back = None

    def _silence_s(self) -> float:
        """The longest pause between two lines: a step that retires an old master may wait for its last connections."""
        request = self.task.request
        held = request.goal is not None and request.goal.rest is Rest.HELD
        waits_s = request.options.drain_timeout_s if Step.RETIRE in request.allowed and not held else 0.0
        return self.task.deadlines.silence_s + waits_s

    def _refuse_if_stopped(self) -> None:
        if _RUNNING.is_stopped(self.task.request.rollout):
            raise Refusal("stopped", "The operator turned back before anything was asked of this host.")

    # What the host needs first

    def _bundle_for(self, platform: Platform) -> Bundle:
        """The bundle with psutil for that platform, fetched if need be, or the one for hosts that have their own."""
        if isinstance(self._bundles, Shelf):
            try:
                return self._bundles.fetch(platform.tag)
            except NoWheel as error:
                self._no_psutil = f"fleet has no psutil for {platform.tag}: {error}."
                self._note("psutil_not_fetched", f"{self._no_psutil} The host's own is used.")
        return fitting(platform.tag, self._bundles)

    def _bring_bundle(self, bundle: Bundle) -> None:
        """The host has the bundle, checked by hash. Raises `Refusal` with the host's own reason."""
        idle_s = self.task.deadlines.transfer_idle_s
        said = ""
        with transferring(self.link, "the step script") as watch:
            command = Command(self.link, receive_line(self.task.host))
            for line in lines_as_root(command, self.task.host, lambda: START_S + idle_s):
                if not said and begins(line, command):
                    said = "fleet-begun"
                    watch.moved()
                    # What the host says of it counts more than that it didn't take everything.
                    with suppress(OSError):
                        command.send(receive_text(bundle, self.task.host.layout.state_dir))
                        Source(bundle.data, self.link, watch, self._rate).pour_into(command, idle_s)
                elif line.startswith(b"fleet-"):
                    said = printable(line.decode("utf-8", "replace"))
                    break
        if not said:
            raise _ended_early(self.link, command, begun=False)
        command.close()
        if said != "fleet-stored":
            why = f"{said.removeprefix('fleet-').removeprefix('begun')} {command.stderr}".strip()
            if why.startswith("unsafe "):
                why = f"somebody else than root can write to {why.removeprefix('unsafe ')}, or rename what is in it"
            raise _bundle_failed(why or "the host did not say why")
        log.info("%s: the bundle for %s was stored", self.task.host.name, bundle.tag)

    def _bring_release(self, release: Path) -> None:
        """The release lies packed beside its place on the host; the step script unpacks it and checks its hash."""
        goal = self.task.request.goal
        if goal is None:
            raise ValueError("a host asked for a release that the request doesn't name")
        began_at = time.monotonic()
        brought = packed(release)
        way = upload(
            self.link,
            brought.data,
            f"{self.task.host.layout.state_dir}/releases/{goal.target}/nginx.part.gz",
            how=self.task.connecting.transfer,
            rate=self._rate,
            proceed=self._refuse_if_stopped,
        )
        sent_bytes = len(brought.data)
        self.tell(
            EventType.NOTE,
            message=f"uploaded the release by {way} ({_mb(sent_bytes)}, unpacked {_mb(brought.unpacked_bytes)})",
            took_s=time.monotonic() - began_at,
            data={"transfer": way, "bytes": sent_bytes, "unpacked_bytes": brought.unpacked_bytes},
        )


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


def _ended_early(link: Link, command: Command, begun: bool) -> Trouble:
    """What to say of a conversation without an end mark."""
    status = command.exit_status()
    if not link.is_active:
        return Trouble("link_lost", "The connection was lost.", "Ask the host again: fleet status.")
    ended = "without an exit status" if status is None else f"with exit status {status}"
    said = f": {command.stderr}" if command.stderr else ""
    log.warning("%s: the remote command ended %s%s", link.host.name, ended, said)
    if not begun:
        return Refusal(
            "no_shell",
            f"The login ended {ended} without running fleet's command{said}.",
            "The login shell must run commands (not nologin), and ForceCommand must pass them on.",
        )
    return Trouble(
        "script_died",
        f"The step script ended {ended} before it was done{said}.",
        "Ask the host again: fleet status. If it says the same, this is a bug of fleet: keep the log.",
    )


def _bundle_failed(why: str) -> Refusal:
    return Refusal(
        "bundle_failed",
        f"The step script could not be put on the host: {printable(why)}.",
        "See that the state folder (fleet_state_dir, /var/lib/fleet) has room and that only root can write there.",
    )


def _outcome_of(task: HostTask, outcome: Outcome, trouble: Trouble) -> HostOutcome:
    return HostOutcome(task.host.name, outcome, trouble.reason, printable(trouble.message), printable(trouble.remedy))


def _now() -> datetime:
    return datetime.now(UTC)
