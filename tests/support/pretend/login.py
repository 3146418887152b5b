"""One SSH login of a pretend host, without the SSH: what its command reads and writes.

The start line is compared with the text that `fleet.ssh` makes, and requests and replies are those of `fleet.onhost`, so a
change of the protocol breaks this module instead of being passed over. `tests/onhost/visit/test_pretend_login.py` compares
it with the real step script. The host answers at once, or after `takes_s`, and obeys no stop meanwhile.
"""

import ast
import asyncio
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from fleet.onhost.protocol import (
    BEAT,
    END_MARK,
    OVER,
    STOP,
    UPLOAD,
    Ask,
    Outcome,
    Reply,
    ReplyType,
    Request,
    Step,
    Upload,
)
from fleet.onhost.visit.end import End, ended
from fleet.onhost.visit.request import Visit
from fleet.onhost.wire import decode, encode
from fleet.ssh.remote.start_line import BEGIN, LARGEST_64_BIT, login_line, run_script, text_script
from tests.support.pretend.host import Pretend
from tests.support.pretend.visit import WELL, Controller

KEYS = re.compile(r"for k in ([0-9a-f ]+); do f=([^ $]+)/bundles/")
STORE = re.compile(r"^main\(('.*', '.*', '.*', [0-9]+)\)$", re.MULTILINE)
NO_BUNDLE = f"fleet-missing bundle x86_64 {LARGEST_64_BIT} glibc 2.36".encode()
VERSION = "1.27.1"
"""Of every release that a request names."""


class Source(Protocol):
    """What the command reads: `asyncio.StreamReader`, or asyncssh's stdin."""

    async def readline(self) -> bytes: ...

    async def readexactly(self, n: int) -> bytes: ...


def address(number: int) -> str:
    """The loopback address of the host with that number, from 0."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


def now() -> datetime:
    return datetime.now(UTC)


class PretendHost:
    """A pretend host and what it keeps of fleet: the keys of its bundles, and the releases that were brought."""

    def __init__(self, name: str, clock: Callable[[], datetime] = now) -> None:
        self.pretend = Pretend(name, clock)
        self.bundles: set[str] = set()
        self.releases: set[str] = set()

    def replies(self, request: Request) -> list[Reply]:
        """What the step script says to a request. A lease that has run out is minded first, as its watcher would."""
        self.pretend.mind_lease()
        if request.goal is not None:
            self.pretend.machine.versions.setdefault(request.goal.target, VERSION)
        listener = Listener(request)
        lacks = request.ask is Ask.STAGE and Step.STAGE in request.allowed and not self._has_release(request)
        end = self._lacking(request, listener) if lacks else self.pretend.answer(request, controller=listener)
        report = self.pretend.report()._replace(rehearsal=end.rehearsal)
        return [*listener.heard, end.outcome_reply(report)]

    def _has_release(self, request: Request) -> bool:
        return request.goal is not None and request.goal.target in self.releases

    def _lacking(self, request: Request, listener: "Listener") -> End:
        missing = ended(Outcome.REFUSED, "release_missing", path="nginx.part.gz")
        return Visit(self.pretend.instance, request, listener.say, listener.go_on).take(Step.STAGE, lambda: missing)


class Listener(Controller):
    """A controller that keeps what the step script says."""

    def __init__(self, request: Request) -> None:
        super().__init__(request, WELL)
        self.heard: list[Reply] = []

    def say(self, reply: Reply) -> None:
        self.heard.append(reply)


async def answer_login(
    host: PretendHost, line: str, source: Source, say: Callable[[bytes], object], takes_s: float = 0.0
) -> None:
    """Does what the host's shell does with fleet's command line. Raises `AssertionError` for a line that fleet doesn't send."""
    if line == login_line(text_script(None)):
        say(b"\n" + BEGIN + b"\n")
        await _store_bundle(host, source, say)
        return
    named = KEYS.search(shlex.split(line)[-1])
    assert named is not None, line
    keys, state_dir = tuple(named[1].split()), named[2]
    assert line == login_line(run_script(keys, state_dir, None))
    if not host.bundles.intersection(keys):
        say(b"\n" + NO_BUNDLE + b"\n")
        return
    say(b"\n" + BEGIN + b"\n")
    await source.readline()
    await _converse(host, source, say, takes_s)


async def _converse(host: PretendHost, source: Source, say: Callable[[bytes], object], takes_s: float) -> None:
    """Answers requests to the end of the input."""
    say(_line(Reply(ReplyType.HELLO)))
    is_asked = False
    while line := (await source.readline()).decode():
        word = line.strip()
        if word in (BEAT, STOP):
            if not is_asked:
                say(_line(Reply(ReplyType.HELLO)))
        elif word == OVER:
            is_asked = False
        elif word.startswith(UPLOAD):
            brought: Upload = decode(Upload, word[len(UPLOAD) :])
            await source.readexactly(brought.size_bytes)
            host.releases.add(brought.target)
            say(_last(Reply(ReplyType.OUTCOME, outcome=Outcome.DONE)))
        else:
            is_asked = True
            await _answer(host, decode(Request, line), say, takes_s)


async def _store_bundle(host: PretendHost, source: Source, say: Callable[[bytes], object]) -> None:
    named = STORE.search(ast.literal_eval((await source.readline()).decode()))
    assert named is not None
    _, key, _, size_bytes = ast.literal_eval(f"({named[1]})")
    await source.readexactly(size_bytes)
    host.bundles.add(key)
    say(b"fleet-stored\n")


async def _answer(host: PretendHost, request: Request, say: Callable[[bytes], object], takes_s: float) -> None:
    replies = host.replies(request)
    if takes_s and request.ask not in (Ask.LOOK, Ask.BAKE):
        await asyncio.sleep(takes_s)
    say(b"".join(map(_line, replies[:-1])) + _last(replies[-1]))


def _line(reply: Reply) -> bytes:
    return encode(reply).encode() + b"\n"


def _last(reply: Reply) -> bytes:
    return _line(reply) + END_MARK.encode() + b"\n"
