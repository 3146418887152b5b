"""A conversation with one host: one connection and one step script, which answers one request after the other.

A host pays for one login and one Python start for all visits of a run; `kept_open` keeps the conversation between two
visits. Nothing that the host said earlier is trusted: each request looks afresh. A kept conversation that does not answer
a beat at once is closed before anything is sent, so that nothing can have happened on the host.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from fleet.onhost.protocol import BEAT, OVER, Reply, ReplyType
from fleet.ssh.delivery.bundle import GENERIC, Bundle, start_text
from fleet.ssh.delivery.provision import NoteSink, Provisioner, bundle_failed
from fleet.ssh.delivery.rate_limit import shared_rate
from fleet.ssh.link_errors import LinkError
from fleet.ssh.one_request import Asker, ask, send_release
from fleet.ssh.remote.root_command import RootCommand
from fleet.ssh.remote.start_line import Platform
from fleet.ssh.replies import read_reply
from fleet.ssh.transport.connection import Link
from fleet.task import HostTask

PSUTIL_MISSING = "psutil_missing"
READY_S = 5.0
"""How long a kept conversation may take to answer a beat, in seconds. After that a new login is the faster way."""
KEPT_S = 540.0
"""How long a conversation may be kept, in seconds: less than its step script waits (`fleet.onhost.conversation.IDLE_S`)."""


class Conversation:
    """A connection and the step script there. `notify` tells the operator; it is that of the visit that has it now.

    `kept_at` is when the last request ended, by the monotonic clock.
    """

    def __init__(self, task: HostTask, available: Mapping[str, Bundle], notify: NoteSink) -> None:
        connecting = task.connecting
        self.notify = notify
        self.link = Link(task.host, task.deadlines, connecting, notify=self._note)
        self._provisioner = Provisioner(
            self.link, available, self._note, connecting.transfer, shared_rate(connecting.limit_rate)
        )
        self._script: RootCommand | None = None
        self._is_asked = False
        self.kept_at = 0.0

    def _note(self, reason: str | None, message: str, **values: Any) -> None:
        self.notify(reason, message, **values)

    def is_kept(self) -> bool:
        """Ends the last request. Returns whether another one may follow."""
        self.kept_at = time.monotonic()
        return self.link.is_active and self._end_request() is not None

    def is_ready(self) -> bool:
        """Whether the kept conversation answers. If not, nothing has happened on the host since the last request."""
        script = self._script
        if script is None or not self.link.is_active or time.monotonic() - self.kept_at > KEPT_S:
            return False
        script.renew()
        with suppress(LinkError), self.link.watchdog(READY_S):
            if script.send(_line(BEAT)):
                for line in script.lines(lambda: READY_S):
                    return read_reply(line).type is ReplyType.HELLO
        return False

    def ask(self, asker: Asker) -> Reply:
        """The outcome reply to the request. The host is brought the step script if it has none. Raises `LinkError`."""
        answer = self._answer(asker)
        if isinstance(answer, Reply) and answer.reason == PSUTIL_MISSING:
            answer = self._with_psutil(answer, asker)
        if isinstance(answer, Platform):
            self._provisioner.upload_bundle(self._provisioner.bundle_for(answer), asker.proceed)
            answer = self._answer(asker)
        if isinstance(answer, Platform):
            raise bundle_failed("it was stored, and the next command did not find it")
        if answer.reason == PSUTIL_MISSING:
            return answer._replace(message=f"{answer.message} {self._provisioner.no_psutil}".strip())
        return answer

    def upload_release(self, release: Path, target: str, proceed: Callable[[], None]) -> None:
        """Brings the host the release, over the step script's stdin unless the operator chose another way.

        `proceed` is called at least once a second; what it raises ends the upload. Raises `LinkError`, `HostRefused`.
        """
        script = self._end_request()
        if script is not None and self._provisioner.streams:
            idle_s = self.link.deadlines.transfer_idle_s
            send = partial(send_release, script, idle_s)
            self._provisioner.stream_release(release, target, proceed, send)
            return
        self._end_script()  # a host may allow only one session at a time (MaxSessions)
        self._provisioner.upload_release(release, target, proceed)

    def close(self) -> None:
        """Closes the connection, by which the step script ends."""
        self.link.close()

    def _with_psutil(self, refused: Reply, asker: Asker) -> Reply | Platform:
        """The host's answer without its generic bundle, which it may have from a run that could fetch no psutil.

        The answer is its platform then. For a platform without a wheel the refusal stands.
        """
        self._end_script()
        asker.sent = False
        answer = self._answer(asker, without=GENERIC) if self._provisioner.can_fetch else refused
        if isinstance(answer, Platform) and self._provisioner.bundle_for(answer).tag == GENERIC:
            return refused
        return answer

    def _answer(self, asker: Asker, without: str = "") -> Reply | Platform:
        """The outcome reply, or the platform of a host that has no bundle yet."""
        asker.proceed()
        script = self._end_request()
        self._is_asked = True
        if script is not None:
            return ask(script, asker)
        script = RootCommand.run_bundle(self.link, self._provisioner.keys(without))
        if not script.begin(asker.proceed):
            if script.platform is None:
                raise script.ended_early()
            script.close()
            return script.platform
        self._script = script
        return ask(script, asker, start_text())

    def _end_request(self) -> RootCommand | None:
        """Says that the last request is over. The script that takes the next one; `None` where there is none."""
        script = self._script
        if script is None or (self._is_asked and not script.send(_line(OVER))):
            return None
        self._is_asked = False
        script.renew()
        return script

    def _end_script(self) -> None:
        if self._script is not None:
            self._script.close()
        self._script = None


def _line(word: str) -> bytes:
    return word.encode("ascii") + b"\n"
