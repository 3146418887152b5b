"""One HTTP connection of the lab's clients: a request, and its complete answer or the exact failure.

It uses plain sockets and asyncio: an HTTP library would retry, reconnect or wait by itself, and here the events on the
wire count. It accepts only answers with a Content-Length, so that it can tell when one is cut short.
"""

import asyncio
import errno
import ipaddress
import socket
from dataclasses import dataclass
from enum import StrEnum

READ_BYTES = 64 * 1024
HEAD_BYTES = 32 * 1024
UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


class What(StrEnum):
    """What was wrong with an answer. `LOCAL` is a problem of the client itself (no file descriptors, no ports)."""

    REFUSED = "refused"
    RESET = "reset"
    SHORT = "short"
    WRONG = "wrong"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    LOCAL = "local"


class BadAnswer(Exception):
    """No answer, or not the expected one."""

    def __init__(self, what: What, detail: str) -> None:
        super().__init__(detail)
        self.what = what
        self.detail = detail


class NoAnswer(BadAnswer):
    """The server closed the connection before the first byte of an answer."""


@dataclass(frozen=True, slots=True)
class Target:
    """One host: its name and socket address."""

    host: str
    family: socket.AddressFamily
    address: tuple[str, int]

    @staticmethod
    def parse(host: str, text: str) -> "Target":
        """The target that `address:port` or `[address]:port` names. Raises `ValueError` when it is neither."""
        address, _, port = text.rpartition(":")
        ip = ipaddress.ip_address(address.strip("[]"))
        return Target(host, socket.AF_INET if ip.version == 4 else socket.AF_INET6, (str(ip), int(port)))


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. `closes`: the server announced `Connection: close`."""

    status: int
    body: bytes
    closes: bool


class Connection:
    """One TCP connection and the requests on it. Closed when left as a context."""

    def __init__(self, target: Target, *, receive_buffer_bytes: int = 0) -> None:
        self._loop = asyncio.get_running_loop()
        self._target = target
        self.stage = "connecting"
        self.answers = 0
        try:
            self._socket = socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise BadAnswer(What.LOCAL, f"socket: {error.strerror}") from error
        if receive_buffer_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def ended_while_idle(self) -> bool:
        """True when the server has closed (or broken) the connection since the last answer."""
        try:
            return self._socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    async def open(self) -> None:
        try:
            await self._loop.sock_connect(self._socket, self._target.address)
        except OSError as error:
            raise bad_answer(error, self.stage) from error

    async def head(self, request: bytes) -> tuple[int, int, bool, bytes]:
        """Send a request; returns the status, the length, whether the server will close, and the first bytes."""
        self.stage = "sending"
        try:
            await self._loop.sock_sendall(self._socket, request)
        except OSError as error:
            raise self._no_answer(bad_answer(error, self.stage)) from error
        self.stage = "waiting for the answer"
        seen = b""
        while (end := seen.find(b"\r\n\r\n")) < 0:
            if len(seen) > HEAD_BYTES:
                raise BadAnswer(What.WRONG, "no end of the header")
            try:
                part = await self.receive(READ_BYTES)
            except BadAnswer as bad:
                raise (bad if seen else self._no_answer(bad)) from bad
            if not part:
                raise BadAnswer(What.SHORT, "closed within the header") if seen else NoAnswer(What.SHORT, "no byte")
            seen += part
        self.stage = "reading the answer"
        return *_parse_head(seen[:end]), seen[end + 4 :]

    async def ask(self, request: bytes) -> Answer:
        """Send a request; returns the complete answer."""
        status, length, closes, body = await self.head(request)
        while len(body) < length:
            part = await self.receive(READ_BYTES)
            if not part:
                raise BadAnswer(What.SHORT, f"{len(body)} of {length} bytes")
            body += part
        if len(body) > length:
            raise BadAnswer(What.WRONG, f"{len(body)} bytes where {length} were announced")
        self.answers += 1
        return Answer(status, body, closes)

    async def receive(self, most_bytes: int) -> bytes:
        """What has come, as soon as something has; empty at the end."""
        try:
            return await self._loop.sock_recv(self._socket, most_bytes)
        except OSError as error:
            raise bad_answer(error, self.stage) from error

    @staticmethod
    def _no_answer(bad: BadAnswer) -> BadAnswer:
        return NoAnswer(bad.what, bad.detail) if bad.what is What.RESET else bad


def bad_answer(error: OSError, stage: str) -> BadAnswer:
    detail = f"{stage}: {error.strerror}"
    if isinstance(error, ConnectionRefusedError):
        return BadAnswer(What.REFUSED, detail)
    if isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return BadAnswer(What.RESET, detail)
    if error.errno == errno.ETIMEDOUT:
        return BadAnswer(What.TIMED_OUT, detail)
    return BadAnswer(What.UNREACHABLE if error.errno in UNREACHABLE else What.LOCAL, detail)


def _parse_head(head: bytes) -> tuple[int, int, bool]:
    """Status, Content-Length and whether it says `Connection: close`."""
    first, *lines = head.split(b"\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    try:
        status, length = int(first.split(b" ", 2)[1]), int(fields[b"content-length"])
    except (IndexError, KeyError, ValueError) as error:
        raise BadAnswer(What.WRONG, f"no status or Content-Length: {first[:60]!r}") from error
    return status, length, fields.get(b"connection", b"").lower() == b"close"
