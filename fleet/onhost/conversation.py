"""A conversation: one step script answers the requests of one run, one after the other, on its stdin and stdout.

The script says HELLO, and then reads one line at a time: a request, whose answer ends with the end mark; the announcement
of a release, whose bytes follow; or a beat, by which the controller asks whether the script is still there, and which it
answers with another HELLO. While it answers a request the lines are beats, up to `OVER`.

Between two requests the script holds no lock, and remembers the hashes and versions of files and nothing else
(`remembered.py`): each request gets a machine that looks afresh. The end of stdin ends it at once. A cut connection gives
no end, so the script also ends by itself when it hears nothing.
"""

import os
import signal
import sys
from threading import Lock
from typing import BinaryIO, Callable, Iterator, NamedTuple, Optional, Tuple

from fleet.onhost.protocol import (
    BEAT,
    END_MARK,
    OVER,
    PROTOCOL,
    UPLOAD,
    Outcome,
    Reply,
    ReplyType,
    Report,
    Request,
    Upload,
)
from fleet.onhost.visit.end import End, ended
from fleet.onhost.visit.heartbeat import Control
from fleet.onhost.wire import Malformed, decode, encode

MOST_REQUEST_BYTES = 1 << 20
REQUEST_S = 45
"""How long to wait for the first request, in seconds. Nothing has been done yet, and a cut connection gives no error."""
IDLE_S = 600
"""How long to wait for a further request, and for the next bytes of a release, in seconds."""
OVER_S = 60.0
"""How long to wait for `OVER` after the end mark, in seconds. A controller that is there sends it at once."""

Serve = Callable[[Request, Callable[[Reply], None], Callable[[], None]], Tuple[End, Optional[Report]]]


class Host(NamedTuple):
    """What answers: `serve` a request, `receive` a release, which says why it failed. `is_installed`: whether the files of the
    step script are still there."""

    serve: Serve
    receive: Callable[[Upload, BinaryIO], Optional[str]]
    is_installed: Callable[[], bool] = lambda: True


class Speaker:
    """Writes reply lines. A line that can't be written is dropped: the controller is gone."""

    def __init__(self) -> None:
        self._lock = Lock()

    def line(self, text: str) -> None:
        with self._lock:
            try:
                sys.stdout.write(text + "\n")
                sys.stdout.flush()
            except (OSError, ValueError):
                return

    def say(self, reply: Reply) -> None:
        self.line(encode(reply))

    def end(self, end: End, report: Optional[Report]) -> None:
        """The outcome and the end mark. A request without an end mark is a lost link."""
        self.say(end.outcome_reply(report))
        self.line(END_MARK)


def converse(source: BinaryIO, host: Host) -> int:
    """Answer requests until the end. The exit code means nothing: the replies say what happened."""
    speaker = Speaker()
    speaker.say(Reply(ReplyType.HELLO))
    wait_s = REQUEST_S
    while True:
        line = _next_line(source, wait_s)
        wait_s = IDLE_S
        word = line.strip()
        if not line:
            return 0
        if word == OVER:
            continue
        if word == BEAT:
            # Without its files the script could not load what the next request needs: a new one brings them again.
            if not host.is_installed():
                return 0
            speaker.say(Reply(ReplyType.HELLO))
        elif word.startswith(UPLOAD):
            if not _received(source, word[len(UPLOAD) :], speaker, host):
                return 2
        elif not _answered(source, line, speaker, host):
            return 2


def _next_line(source: BinaryIO, wait_s: int) -> str:
    """The next line; empty at the end of stdin. The script ends (SIGALRM) when none comes in `wait_s` seconds."""
    signal.alarm(wait_s)
    try:
        return source.readline(MOST_REQUEST_BYTES).decode("utf-8", "replace")
    finally:
        signal.alarm(0)


def _received(source: BinaryIO, line: str, speaker: Speaker, host: Host) -> bool:
    """Receive a release. Returns whether the next line can be read: all of its bytes are."""
    try:
        upload: Upload = decode(Upload, line)
    except Malformed as error:
        speaker.end(ended(Outcome.REFUSED, "bad_request", error=error), None)
        return False
    blocks = _Bytes(source, upload.size_bytes)
    why = host.receive(upload, blocks)  # type: ignore[arg-type]  # reads, as a file does
    whole = blocks.skip()
    outcome = Outcome.DONE if why is None and whole else Outcome.FAILED
    speaker.say(Reply(ReplyType.OUTCOME, outcome=outcome, message=why or ""))
    speaker.line(END_MARK)
    return whole


class _Bytes:
    """The next bytes of the stream, and no more. The script ends (SIGALRM) when none come for `IDLE_S`."""

    def __init__(self, source: BinaryIO, left: int) -> None:
        self._source = source
        self._left = left

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at their end."""
        signal.alarm(IDLE_S)
        try:
            # What is there: a whole block may take long.
            block: bytes = self._source.read1(min(size, self._left))  # type: ignore[attr-defined]
        finally:
            signal.alarm(0)
        self._left -= len(block)
        return block

    def skip(self) -> bool:
        """Read the rest. Returns whether all of them came."""
        while self._left and self.read(1 << 16):
            pass
        return not self._left


def _answered(source: BinaryIO, line: str, speaker: Speaker, host: Host) -> bool:
    """Answer the request. Returns whether the next one may come."""
    try:
        request: Request = decode(Request, line)
    except Malformed as error:
        speaker.end(ended(Outcome.REFUSED, "bad_request", error=error), None)
        return False
    if request.protocol != PROTOCOL:
        speaker.end(ended(Outcome.REFUSED, "protocol", theirs=request.protocol, ours=PROTOCOL), None)
        return False
    control = Control(_lines(source))
    control.listen()
    end, report = host.serve(request, speaker.say, control.go_on)
    speaker.end(end, report)
    if not control.is_over(OVER_S):
        # The thread waits for a line, and would keep Python from an orderly end.
        os._exit(0)
    return True


def _lines(source: BinaryIO) -> Iterator[str]:
    for line in iter(source.readline, b""):
        yield line.decode("utf-8", "replace")
