"""Bytes to the host: by SFTP or the old SCP protocol to a path, or as a `Source` that is written to a command's stdin.

The bytes go to a name of this upload's own beside the path and are renamed when all are there, so that nothing
reads half a file, or a file that the far end of a dead connection still holds open: such a file could change after it was
hashed, and could not be run ("text file busy"). The file is root's alone (mode 0600) from its first byte. The deadline
counts from the last progress, so that a slow link may take long. Bytes in a buffer on the way are no progress: fleet
sends a keepalive after every few of them and waits for its answer, while more bytes are on the way. The host hashes what
arrived.

A release that is whole on the host is not sent again, but an interrupted upload starts from the beginning: a compressed
nginx is half a megabyte, a few seconds on a slow link. To resume, the good part would have to be copied into a new file
(see above) and its length and hash be compared, which saves less than it can break.
"""

import posixpath
import secrets
import shlex
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import paramiko
from scp import SCPClient, SCPException

from fleet.onhost.text import safe
from fleet.ssh.delivery.rate_limit import UNLIMITED, Rate
from fleet.ssh.link_errors import HostRefused, LinkError, NoAnswer
from fleet.ssh.remote.command import Command
from fleet.ssh.remote.root_command import RootCommand
from fleet.ssh.transport.connection import LIBRARY_ERRORS, Link
from fleet.ssh.transport.watchdog import Watchdog

WAYS = ("sftp", "scp")
MODE = 0o600
SCP_CHUNK_BYTES = 32 << 10
# The libraries' own deadlines come this much later than the watchdog's, which gives the better message.
LATER_S = 5.0
DONE = b"fleet-done"
PIECE_BYTES = 32 << 10
"""A keepalive follows each piece. An upload that moves less than this within the deadline has stalled."""
# How many bytes may be on the way without an answer: about half a second of the link's time. That is enough for a fast
# link, and leaves little in the buffers where fifty hosts share a slow one.
MIN_ON_THE_WAY_BYTES = 16 << 10
MAX_ON_THE_WAY_BYTES = 1 << 20
QUICK_S = 0.5
SLOW_S = 2.0


def upload(
    link: Link,
    data: bytes,
    remote_path: str,
    *,
    how: str,
    rate: Rate = UNLIMITED,
    proceed: Callable[[], None] = lambda: None,
) -> None:
    """Uploads the bytes to `remote_path`, `how` being one of `WAYS`.

    `proceed` is called at least once a second; what it raises ends the upload. Raises `HostRefused` when it fails on the
    host, `LinkError` when the link failed.
    """
    part = f"{remote_path}.{secrets.token_hex(4)}"
    with transferring(link, remote_path) as watch:
        try:
            _SENDERS[how](link, Source(data, link, watch, rate, proceed), len(data), part, remote_path)
            return
        except (*LIBRARY_ERRORS, SCPException, paramiko.SFTPError) as error:
            failure = safe(str(error)).strip() or type(error).__name__
    _discard(link, part)
    raise upload_failed(remote_path, f"{how}: {failure}")


def upload_failed(remote_path: str, why: str) -> HostRefused:
    """The error for a release that the host could not store."""
    folder = shlex.quote(posixpath.dirname(remote_path))
    return HostRefused(
        "upload_failed",
        f"{remote_path} could not be written ({why}).",
        f"See that the host's disk has room and that the login may write there: df -h {folder}; ls -ld {folder}",
    )


@contextmanager
def transferring(link: Link, what: str) -> Iterator[Watchdog]:
    """A watchdog for an upload. Raises `LinkError` when the upload stalls or the link is lost."""
    idle_s = link.deadlines.transfer_idle_s
    with link.watchdog(idle_s) as watch:
        try:
            yield watch
        except LinkError as failure:
            if not watch.fired and isinstance(failure, NoAnswer):
                raise _stalled(f"The upload of {what} stalled. {failure.message}") from failure
            if not watch.fired:
                raise
    if watch.fired:
        raise _stalled(f"The upload of {what} made no progress for {idle_s:g} s.")
    if not link.is_active:
        raise LinkError("link_lost", f"The connection was lost during the upload of {what}.", "Run the command again.")


def _stalled(message: str) -> LinkError:
    return LinkError(
        "transfer_stalled",
        message,
        "See that the network path to the host is up (ping), and that its disk has room (df).",
    )


class _Piece(NamedTuple):
    """Bytes on the way, and the number of the keepalive whose answer shows that they have arrived."""

    number: int
    size_bytes: int
    sent_at: float


class Source:
    """The bytes to send, as a file object. `read` returns no more than the rate and the link allow, and calls the watchdog
    when bytes have arrived.
    """

    def __init__(
        self,
        data: bytes,
        link: Link,
        watch: Watchdog,
        rate: Rate = UNLIMITED,
        proceed: Callable[[], None] = lambda: None,
    ) -> None:
        self._data = memoryview(data)
        self._read_bytes = 0
        self._transport = link.transport
        self._watch = watch
        self._rate = rate
        self._proceed = proceed
        self._room_bytes = MIN_ON_THE_WAY_BYTES
        self._on_the_way_bytes = 0
        self._unconfirmed_bytes = 0
        self._keepalives: deque[_Piece] = deque()

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, none at the end. Raises OSError when the link is lost."""
        return bytes(self.next(size))

    def next(self, size: int = -1) -> memoryview:
        """As `read`, without a copy."""
        self._check()
        if self._unconfirmed_bytes >= MIN_ON_THE_WAY_BYTES:
            self._send_keepalive()
        while self._keepalives and self._keepalives[0].number <= self._transport.answered:
            self._arrive()
        while self._room_bytes - self._on_the_way_bytes < MIN_ON_THE_WAY_BYTES and self._on_the_way_bytes:
            self._arrive()
        most_bytes = min(PIECE_BYTES, self._room_bytes - self._on_the_way_bytes)
        most_bytes = self._rate.portion(most_bytes if size < 0 else min(size, most_bytes))
        data = self._data[self._read_bytes : self._read_bytes + most_bytes]
        if not data:
            self._arrive_all()
        self._read_bytes += len(data)
        self._rate.take(len(data), self._wait)
        self._on_the_way_bytes += len(data)
        self._unconfirmed_bytes += len(data)
        return data

    def write_to(self, command: Command, idle_s: float) -> None:
        """Writes all of it to the command's stdin. Raises OSError."""
        while block := self.next():
            command.write_all(block, idle_s)

    def progressed(self) -> None:
        """There was progress other than bytes of this source."""
        self._watch.progressed()

    def _send_keepalive(self) -> None:
        """Sends a keepalive; its answer shows that all bytes read so far have arrived."""
        self._keepalives.append(
            _Piece(self._transport.send_keepalive(self._watch.progressed), self._unconfirmed_bytes, time.monotonic())
        )
        self._unconfirmed_bytes = 0

    def _arrive(self) -> None:
        """Waits until the oldest piece has arrived. A quick answer raises the number of bytes that may be on the way."""
        if not self._keepalives:
            self._send_keepalive()
        piece = self._keepalives[0]
        while not self._transport.wait_for_answer(piece.number):
            self._check()
        self._keepalives.popleft()
        took_s = time.monotonic() - piece.sent_at
        self._on_the_way_bytes -= piece.size_bytes
        if took_s < QUICK_S:
            self._room_bytes = min(self._room_bytes + piece.size_bytes, MAX_ON_THE_WAY_BYTES)
        elif took_s > SLOW_S:
            self._room_bytes = max(self._room_bytes - piece.size_bytes, MIN_ON_THE_WAY_BYTES)

    def _arrive_all(self) -> None:
        if self._unconfirmed_bytes:
            self._send_keepalive()
        while self._keepalives:
            self._arrive()

    def _check(self) -> None:
        self._proceed()
        if not self._transport.is_active():
            raise OSError("the connection ended")

    def _wait(self) -> None:
        """The upload waits for its own rate limit, not for the host."""
        self._watch.progressed()
        self._check()

    def tell(self) -> int:
        return self._read_bytes


def _by_sftp(link: Link, source: Source, size_bytes: int, part: str, remote_path: str) -> None:
    with link.fabric.client.open_sftp() as sftp:
        sftp.get_channel().settimeout(link.deadlines.transfer_idle_s + LATER_S)
        with sftp.open(part, "wb") as made:
            made.chmod(MODE)
        sftp.putfo(source, part)
        sftp.posix_rename(part, remote_path)


def _by_scp(link: Link, source: Source, size_bytes: int, part: str, remote_path: str) -> None:
    with SCPClient(
        link.transport, buff_size=SCP_CHUNK_BYTES, socket_timeout=link.deadlines.transfer_idle_s + LATER_S
    ) as client:
        client.putfo(source, part, mode=f"{MODE:04o}", size=size_bytes)
    _run(link, _move(size_bytes, part, remote_path), source.progressed)


_SENDERS: dict[str, Callable[[Link, Source, int, str, str], None]] = {
    "sftp": _by_sftp,
    "scp": _by_scp,
}


def _discard(link: Link, part: str) -> None:
    """Removes the partial file if possible: it may have filled the disk."""
    with suppress(LinkError, *LIBRARY_ERRORS), link.watchdog(link.deadlines.transfer_idle_s):
        _run(link, f"rm -f {shlex.quote(part)}")


def _move(size_bytes: int, part: str, remote_path: str) -> str:
    """Shell that renames the file if it is whole. A cut link ends `cat` as the end of the file does, so the size counts."""
    quoted = shlex.quote(part)
    return f"[ $(wc -c < {quoted}) -eq {size_bytes} ] && mv -f {quoted} {shlex.quote(remote_path)}"


def _run(link: Link, script: str, progressed: Callable[[], None] = lambda: None) -> None:
    """Runs the script. Raises OSError with its stderr when it failed.

    `progressed` is called while the login begins: the upload's deadline does not run then.
    """
    command = RootCommand.run_shell(link, f"{script} && echo && echo {DONE.decode()}")
    done = False
    if command.begin(progressed):
        command.close_stdin()
        for line in command.lines(lambda: link.deadlines.transfer_idle_s + LATER_S):
            done = done or line == DONE
    stderr = command.stderr
    command.close()
    if not done:
        raise OSError(stderr or "the command failed without a message")
