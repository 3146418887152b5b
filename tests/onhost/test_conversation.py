"""A step script answers one request after the other, and remembers nothing between them."""

import io
import signal
from collections.abc import Callable
from typing import Any, BinaryIO

import pytest

from fleet.onhost import conversation
from fleet.onhost.conversation import Host, converse
from fleet.onhost.protocol import (
    BEAT,
    END_MARK,
    OVER,
    PROTOCOL,
    UPLOAD,
    Ask,
    Outcome,
    Reply,
    ReplyType,
    Report,
    Request,
    Upload,
)
from fleet.onhost.visit.end import End
from fleet.onhost.wire import decode, encode


def a_request(rollout: str) -> Request:
    return Request(PROTOCOL, Ask.LOOK, rollout, 1, "ann@laptop", None, ())


class Pretend:
    """A host that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.received: list[bytes] = []
        self.is_installed = True
        self.why: str | None = None

    def serve(
        self, request: Request, say: Callable[[Reply], None], go_on: Callable[[], None]
    ) -> tuple[End, Report | None]:
        self.asked.append(request.rollout)
        return End(Outcome.DONE), None

    def receive(self, upload: Upload, source: BinaryIO) -> str | None:
        if self.why is None:
            self.received.append(b"".join(iter(lambda: source.read(3), b"")))
        return self.why

    def hears(self, *lines: bytes) -> int:
        return converse(
            io.BufferedReader(io.BytesIO(b"".join(lines))), Host(self.serve, self.receive, lambda: self.is_installed)
        )


def line(value: Any) -> bytes:
    return (value if isinstance(value, str) else encode(value)).encode() + b"\n"


def said(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """The type and outcome of each reply, and the end marks."""
    lines = capsys.readouterr().out.splitlines()
    return [each if each == END_MARK else _kind(decode(Reply, each)) for each in lines]


def _kind(reply: Reply) -> Any:
    return reply.outcome or reply.type


def test_requests_are_answered_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    host = Pretend()

    code = host.hears(*(part for name in "ab" for part in (line(a_request(name)), line(BEAT), line(OVER))))

    assert (code, host.asked) == (0, ["a", "b"])
    assert said(capsys) == [ReplyType.HELLO, Outcome.DONE, END_MARK, Outcome.DONE, END_MARK]


def test_a_beat_between_two_requests_asks_whether_the_script_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    Pretend().hears(line(BEAT), line(OVER), line(BEAT))

    assert said(capsys) == [ReplyType.HELLO] * 3


def test_a_script_whose_files_are_gone_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    host = Pretend()
    host.is_installed = False

    assert host.hears(line(BEAT), line(a_request("a"))) == 0

    assert said(capsys) == [ReplyType.HELLO]
    assert host.asked == []


def test_a_release_comes_between_two_requests(capsys: pytest.CaptureFixture[str]) -> None:
    host = Pretend()
    announced = line(UPLOAD + encode(Upload("ab" * 32, 7, "/var/lib/fleet")))

    host.hears(line(a_request("a")), line(OVER), announced, b"a\nbytes", line(a_request("b")), line(OVER))

    assert host.received == [b"a\nbytes"]
    assert host.asked == ["a", "b"]
    assert said(capsys) == [ReplyType.HELLO, *[Outcome.DONE, END_MARK] * 3]


def test_a_release_that_can_not_be_stored_is_read_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    host = Pretend()
    host.why = "No space left on device"

    host.hears(
        line(UPLOAD + encode(Upload("ab" * 32, 7, "/var/lib/fleet"))), b"a\nbytes", line(a_request("b")), line(OVER)
    )

    assert host.asked == ["b"]
    assert said(capsys) == [ReplyType.HELLO, Outcome.FAILED, END_MARK, Outcome.DONE, END_MARK]


def test_a_release_that_is_cut_off_ends_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert Pretend().hears(line(UPLOAD + encode(Upload("ab" * 32, 7, "/var/lib/fleet"))), b"a\nb") == 2

    assert said(capsys) == [ReplyType.HELLO, Outcome.FAILED, END_MARK]


@pytest.mark.parametrize("bad", [b"{}\n", b"upload {}\n", line(a_request("a")._replace(protocol=PROTOCOL + 1))])
def test_what_is_no_request_is_refused_and_ends_the_script(capsys: pytest.CaptureFixture[str], bad: bytes) -> None:
    host = Pretend()

    assert host.hears(bad, line(a_request("b")), line(OVER)) == 2

    assert host.asked == []
    assert said(capsys) == [ReplyType.HELLO, Outcome.REFUSED, END_MARK]


def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's alarm ends the script, which sets it for each line that it waits for, and never while it works."""
    waits: list[int] = []
    monkeypatch.setattr(signal, "alarm", waits.append)

    Pretend().hears(line(a_request("a")), line(OVER), line(UPLOAD + encode(Upload("ab" * 32, 3, "/s"))), b"abc")

    idle = conversation.IDLE_S
    assert waits[:4] == [conversation.REQUEST_S, 0, idle, 0]
    assert set(waits[4:]) == {idle, 0}
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
