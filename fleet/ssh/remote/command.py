"""A command that runs on a host: bytes go in, lines come out, and nothing of it can fill our memory or hang us.

Fabric's `run` needs four threads a command, polls, and joins its whole output for every chunk. This reads the raw
channel in the visit's own thread. A host may be broken or hostile: a line, the number of lines and the whole output
are bounded.
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
"""Of one visit, each of which may become an event that is written to the disk: a real one says a few dozen."""
MAX_STDERR_BYTES = 4 << 20
STDERR_BYTES = 8 << 10
CHUNK_BYTES = 64 << 10
PULSE_S = 1.0

log = logging.getLogger("fleet.ssh")
log.addHandler(logging.NullHandler())


class Command:
    """A command begun on the host, without a terminal. `stderr` is the end of what it complained of."""

    def __init__(self, link: Link, line: str) -> None:
        self._link = link
        self._stderr = bytearray()
        self._received_bytes = 0
        self._complained_bytes = 0
        self._heard_at = time.monotonic()
        self._waited_s = 0.0
        began_at = time.monotonic()
        with link.watchdog(link.deadlines.channel_s + PULSE_S):
            try:
                # exec_command waits for the host's answer without any deadline of paramiko's.
                self._channel = link.transport.open_session(timeout=link.deadlines.channel_s)
                self._channel.exec_command(line)
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise _no_channel(link, time.monotonic() - began_at, error) from error
        self._channel.settimeout(PULSE_S)

    @property
    def stderr(self) -> str:
        """The last lines that it wrote to stderr, made sanitized, joined by semicolons."""
        text = self._stderr.decode("utf-8", "replace")
        return "; ".join(safe(line).strip() for line in text.splitlines() if line.strip())

    def send(self, data: bytes) -> bool:
        """Whether the data was taken: a command that ended, or doesn't read, is seen when its output is read."""
        try:
            self._channel.sendall(data)
        except (TimeoutError, OSError, EOFError, paramiko.SSHException):
            return False
        return True

    def write_all(self, data: memoryview, idle_s: float) -> None:
        """All of the data was taken. Raises OSError when nothing was for `idle_s`, or the command takes no more."""
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
        """The command meets the end of its stdin."""
        with suppress(OSError, EOFError, paramiko.SSHException):  # it may have ended already
            self._channel.shutdown_write()

    def lines(self, pulse: Callable[[], float]) -> Iterator[bytes]:
        """Every whole line of stdout until its end. `pulse` is called at least once a second; it returns for how many
        seconds the host may be waited for just now, since the beginning or since `progressed` was called.

        What it writes does not count by itself: a host that dribbles would never be given up. Nor does the time that the
        caller takes with a line. Raises `LinkError`: `too_much_output`, `silent`, `no_answer` (not even its sshd), `link_lost`.
        """
        buffer = bytearray()
        count = 0
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
            count += len(whole)
            if len(rest) > MAX_LINE_BYTES or count > MAX_LINES:
                raise too_much()
            buffer = bytearray(rest)
            yield from (bytes(line) for line in whole)
        self._read_stderr()

    def progressed(self) -> None:
        """It said or did what it was waited for: the wait for what comes next starts afresh."""
        self._waited_s = 0.0

    def exit_status(self, wait_s: float = 2.0) -> int | None:
        """Its exit status; `None` when it did not say one within `wait_s`: the link was cut, or a signal ended it."""
        said = self._channel.status_event.wait(wait_s)
        self._read_stderr()  # what it wrote before its end has come by now, too
        if not said or self._channel.exit_status < 0:
            return None
        return int(self._channel.exit_status)

    def close(self) -> None:
        """The channel is closed; the connection stays."""
        with suppress(OSError, EOFError, paramiko.SSHException):  # it may be gone already
            self._channel.close()

    def _read_stderr(self) -> None:
        while self._channel.recv_stderr_ready():
            chunk = self._channel.recv_stderr(CHUNK_BYTES)
            if not chunk:
                return
            self._heard_at = time.monotonic()
            self._stderr = (self._stderr + chunk)[-STDERR_BYTES:]
            self._complained_bytes += len(chunk)
            if self._complained_bytes > MAX_STDERR_BYTES:
                raise too_much()


def _silent(patience_s: float) -> LinkError:
    return LinkError(
        "silent",
        f"The host said nothing for {patience_s:g} s of what fleet waits for, though its sshd answers.",
        "Look at the host (is it out of memory, is its disk stuck, does its login shell wait for something?); then ask "
        "again: fleet status.",
    )


def too_much() -> LinkError:
    """What to say of a host that talks without end."""
    return LinkError(
        "too_much_output",
        f"The host sent more than fleet takes (a line over {MAX_LINE_BYTES >> 20} MB, {MAX_LINES} lines or "
        f"{MAX_BYTES >> 20} MB in all, {MAX_REPLIES} replies of the step script, {MAX_STDERR_BYTES >> 20} MB on stderr); "
        "the connection was closed.",
        "The step script writes a few kB: see what else writes there (a noisy .bashrc?) or who does.",
    )


def _no_channel(link: Link, waited_s: float, error: BaseException) -> LinkError:
    # Only the time tells a refusal from a silence: paramiko raises the same for both.
    if waited_s >= link.deadlines.channel_s:
        return LinkError(
            "channel_timed_out",
            f"The host did not begin a command within {link.deadlines.channel_s:g} s after the login.",
            "The host hangs or is overloaded, or something on the way is frozen: look at its console.",
        )
    if not link.is_active:
        return LinkError("link_lost", f"The connection was lost: {safe(str(error))}.", "Try again.")
    return LinkError(
        "channel_refused",
        f"The host's sshd let us in but opens no channel for a command: {safe(str(error))}.",
        "Look at MaxSessions, ForceCommand and PermitTTY in its sshd_config and at options in authorized_keys.",
    )
