"""A command on a host: bytes go in, lines come out; memory and waiting are bounded, however the host behaves.

Fabric's `run` needs four threads a command, polls, and joins its whole output for every chunk (`tests/bench/output.py`
measures it). This reads the raw channel in the visit's own thread. A host may be broken or hostile, so the length of a
line, the number of lines and the whole output have limits.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import paramiko

from fleet.onhost.text import safe
from fleet.ssh.link_errors import LinkError
from fleet.ssh.transport.connection import Link

MAX_LINE_BYTES = 1 << 20
MAX_BYTES = 64 << 20
MAX_LINES = 10_000
MAX_REPLIES = 500
"""Replies in one visit. Each may become an event that is written to disk; a real visit has a few dozen."""
MAX_STDERR_BYTES = 4 << 20
STDERR_BYTES = 8 << 10
CHUNK_BYTES = 64 << 10
PULSE_S = 1.0

log = logging.getLogger("fleet.ssh")
log.addHandler(logging.NullHandler())


class Command:
    """A command that was started on the host, without a terminal."""

    def __init__(self, link: Link, line: str) -> None:
        self._link = link
        self._stderr = bytearray()
        self._received_bytes = 0
        self._stderr_bytes = 0
        self._lines = 0
        self._heard_at = time.monotonic()
        self._waited_s = 0.0
        began_at = time.monotonic()
        with link.watchdog(link.deadlines.channel_s + PULSE_S):
            try:
                # paramiko's exec_command waits for the host's answer without a deadline.
                self._channel = link.transport.open_session(timeout=link.deadlines.channel_s)
                self._channel.exec_command(line)
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise _no_channel(link, time.monotonic() - began_at, error) from error
        self._channel.settimeout(PULSE_S)

    @property
    def stderr(self) -> str:
        """The end of its stderr on one line, safe for a terminal."""
        text = self._stderr.decode("utf-8", "replace")
        return "; ".join(safe(line).strip() for line in text.splitlines() if line.strip())

    def send(self, data: bytes) -> bool:
        """Whether the data was sent. Why not (the command ended, or does not read) shows when its output is read."""
        try:
            self._channel.sendall(data)
        except (TimeoutError, OSError, EOFError, paramiko.SSHException):
            return False
        return True

    def write_all(self, data: memoryview, idle_s: float) -> None:
        """Sends all of the data. Raises OSError when none of it moves for `idle_s`, or the command has ended."""
        self._channel.settimeout(idle_s)
        while data:
            try:
                sent = self._channel.send(data)  # type: ignore[arg-type]  # a view spares a copy of the rest per packet
            except (EOFError, paramiko.SSHException) as error:
                raise OSError(f"the connection ended: {error}") from error
            if sent == 0:
                raise OSError("the command ended before it had taken everything")
            data = data[sent:]
            self._heard_at = time.monotonic()
        self._channel.settimeout(PULSE_S)

    def close_stdin(self) -> None:
        """The command reads the end of its stdin."""
        with suppress(OSError, EOFError, paramiko.SSHException):  # the command may have ended already
            self._channel.shutdown_write()

    def lines(self, pulse: Callable[[], float]) -> Iterator[bytes]:
        """Every whole line of stdout until its end. `pulse` is called at least once a second, and returns how many seconds
        the host may take, since the start or since the last call of `progressed`.

        Output alone is no progress, so that a host that prints for ever is given up. The time that the caller takes for a
        line does not count. Raises `LinkError`: `too_much_output`, `silent`, `no_answer` (sshd is silent too), `link_lost`.
        """
        buffer = bytearray()
        self._heard_at = asked_at = time.monotonic()
        while True:
            patience_s = pulse()
            self._read_stderr()
            if self._waited_s >= patience_s:
                raise _silent(patience_s)
            waits_since = time.monotonic()
            try:
                chunk = self._channel.recv(CHUNK_BYTES)
            except TimeoutError:
                if time.monotonic() - max(self._heard_at, asked_at) >= min(self._link.alive_interval_s, patience_s):
                    self._link.check_alive()
                    asked_at = time.monotonic()
                self._waited_s += time.monotonic() - waits_since
                continue
            if not chunk:
                break
            self._heard_at = time.monotonic()
            self._waited_s += self._heard_at - waits_since
            self._received_bytes += len(chunk)
            if self._received_bytes > MAX_BYTES:
                raise too_much()
            buffer += chunk
            *whole, rest = buffer.split(b"\n")
            self._lines += len(whole)
            if len(rest) > MAX_LINE_BYTES or self._lines > MAX_LINES:
                raise too_much()
            buffer = bytearray(rest)
            yield from (bytes(line) for line in whole)
        self._read_stderr()

    def progressed(self) -> None:
        """The command did what was waited for: the time for the next step starts at zero."""
        self._waited_s = 0.0

    def renew(self) -> None:
        """The command gets a new request: its limits and times start anew."""
        self._received_bytes = self._stderr_bytes = self._lines = 0
        self._waited_s = 0.0
        self._heard_at = time.monotonic()

    def exit_status(self, wait_s: float = 2.0) -> int | None:
        """Its exit status; `None` when none came within `wait_s` seconds: the link was cut, or a signal ended it."""
        has_ended = self._channel.status_event.wait(wait_s)
        self._read_stderr()  # all that it wrote before its end has arrived by now
        if not has_ended or self._channel.exit_status < 0:
            return None
        return int(self._channel.exit_status)

    def close(self) -> None:
        """Closes the channel; the connection stays open."""
        with suppress(OSError, EOFError, paramiko.SSHException):  # the connection may be lost already
            self._channel.close()

    def _read_stderr(self) -> None:
        while self._channel.recv_stderr_ready():
            chunk = self._channel.recv_stderr(CHUNK_BYTES)
            if not chunk:
                return
            self._heard_at = time.monotonic()
            self._stderr = (self._stderr + chunk)[-STDERR_BYTES:]
            self._stderr_bytes += len(chunk)
            if self._stderr_bytes > MAX_STDERR_BYTES:
                raise too_much()


def _silent(patience_s: float) -> LinkError:
    return LinkError(
        "silent",
        f"The command on the host made no progress for {patience_s:g} s, though its sshd answers.",
        "See whether the host is out of memory, its disk hangs or its login shell waits for input; then run fleet status.",
    )


def too_much() -> LinkError:
    """The error for a host whose output exceeds a limit."""
    return LinkError(
        "too_much_output",
        f"The host sent more than fleet accepts (a line over {MAX_LINE_BYTES >> 20} MB, {MAX_LINES} lines or "
        f"{MAX_BYTES >> 20} MB in all, {MAX_REPLIES} replies of the step script, {MAX_STDERR_BYTES >> 20} MB on stderr); "
        "the connection was closed.",
        "The step script writes a few kB: see what else writes in that login (.bashrc, .profile), or whether the host was "
        "taken over.",
    )


def _no_channel(link: Link, waited_s: float, error: BaseException) -> LinkError:
    # Only the time tells a refusal from a timeout: paramiko raises the same exception for both.
    if waited_s >= link.deadlines.channel_s:
        return LinkError(
            "channel_timed_out",
            f"The host started no command within {link.deadlines.channel_s:g} s after the login.",
            "It hangs, is overloaded, or the connection is frozen: look at the host's console.",
        )
    if not link.is_active:
        return LinkError("link_lost", f"The connection was lost: {safe(str(error))}.", "Run fleet status.")
    return LinkError(
        "channel_refused",
        f"The host's sshd accepted the login and opens no channel for a command: {safe(str(error))}.",
        "Look at MaxSessions and ForceCommand in its sshd_config, and at the key's options in authorized_keys.",
    )
