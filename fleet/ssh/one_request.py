"""One request and its answer, over a step script that runs: the lines of both ends in their order.

The controller sends the request, and a beat each second, without which the host begins no step. The host sends replies,
the outcome among them, and the end mark.
"""

import time
from contextlib import suppress
from typing import Protocol

from fleet.onhost.protocol import END_MARK, UPLOAD, Reply, ReplyType, Request, Upload
from fleet.onhost.wire import encode
from fleet.ssh.delivery.provision import refuse_unstarted
from fleet.ssh.delivery.upload import Source
from fleet.ssh.link_errors import LinkError
from fleet.ssh.remote.command import MAX_REPLIES, PULSE_S, too_much
from fleet.ssh.remote.root_command import RootCommand
from fleet.ssh.remote.start_line import MISSING
from fleet.ssh.replies import read_reply

END = END_MARK.encode("ascii")
MAX_PAUSES = 6
"""A whole answer may take this many times the longest pause between two replies. A real one has one or two long steps."""


class Asker(Protocol):
    """What has a request: a visit. `sent`: something may have happened on the host that fleet has not heard of."""

    sent: bool

    @property
    def request(self) -> Request: ...
    @property
    def pause_s(self) -> float:
        """The longest pause between two replies, in seconds."""

    def proceed(self) -> None:
        """Called at least once a second before the request is sent. What it raises ends the wait."""

    def beat(self) -> str:
        """The word to send once a second."""

    def take(self, reply: Reply) -> None:
        """Takes a reply that is not the outcome."""


def ask(command: RootCommand, asker: Asker, first: bytes = b"") -> Reply:
    """The outcome reply to the request, which `first` precedes on the same stream. Raises `LinkError`, `HostRefused`."""
    asker.proceed()
    asker.sent = True
    command.send(first + encode(asker.request).encode("utf-8") + b"\n")
    final: Reply | None = None
    replies = 0
    for line in command.lines(_Beats(command, asker).send_due):
        if line == END and final is not None:
            return final
        if line.startswith(MISSING):
            break  # sudo or doas speaks again: the step script has ended
        refuse_unstarted(line)
        if not line.strip():
            continue
        replies += 1
        if replies > MAX_REPLIES:
            raise too_much()
        reply = read_reply(line)
        if reply.type is not ReplyType.HELLO:
            command.progressed()  # a step began or ended, or there is a finding
        if reply.type is ReplyType.OUTCOME:
            final = reply
        else:
            asker.take(reply)
    raise command.ended_early()


class _Beats:
    """The beats of one request, which also bound its time."""

    def __init__(self, command: RootCommand, asker: Asker) -> None:
        self._command = command
        self._asker = asker
        self._due_at = 0.0
        self._asked_at = time.monotonic()

    def send_due(self) -> float:
        """Sends a beat once a second. Returns how long the step script may take to its next reply, in seconds.

        Raises `LinkError` when it has taken too long for all of them.
        """
        now = time.monotonic()
        if now >= self._due_at:
            self._command.send(self._asker.beat().encode("ascii") + b"\n")
            self._due_at = now + PULSE_S
        pause_s = self._asker.pause_s
        if now - self._asked_at >= MAX_PAUSES * pause_s:
            raise LinkError(
                "endless",
                f"The step script sent replies for {MAX_PAUSES * pause_s:g} s and did not end.",
                "See what it does on the host (ps -ef | grep fleet.pyz); then run fleet status.",
            )
        return pause_s


def send_release(script: RootCommand, idle_s: float, wanted: Upload, source: Source) -> Reply:
    """Sends the release's bytes; returns what the host says to them. Raises `LinkError`."""
    script.send(UPLOAD.encode("ascii") + encode(wanted).encode("utf-8") + b"\n")
    with suppress(OSError):  # if the script ends early, its stderr says why
        source.write_to(script, idle_s)
    final: Reply | None = None
    for line in script.lines(lambda: idle_s):
        if line == END and final is not None:
            return final
        final = read_reply(line)
    raise script.ended_early()
