"""Bytes to a path on the host: by SFTP, the old SCP protocol, or the exec channel, whichever the host has.

The bytes go to a name of this upload's own beside the path and are renamed when all are there, so that nobody ever
meets half a file, nor one that the far end of a dead connection still holds open: that could be written to after it was
hashed, and could not be run ("text file busy"). The file is root's alone (mode 0600) from its first byte. The deadline
is by progress: a slow link may take its time. Bytes that lie in a buffer on the way are no progress, so the far end is
asked for an answer after each few of them, while more are on their way. Whether they are the right bytes is for the
host to say, which hashes them.

What is whole on the host is never sent again, but a cut upload begins anew: a compressed_release nginx is half a megabyte, a few
seconds even on a slow link. To go on with a part one would have to copy what is good of it into a new file, for the
reason above, and to ask the host for its length and hash: more ways to go wrong than seconds to save.
"""

import io
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
from fleet.ssh.link_errors import HostRefused, LinkError
from fleet.ssh.remote.command import Command
from fleet.ssh.remote.root_command import RootCommand
from fleet.ssh.transport.connection import LIBRARY_ERRORS, Link
from fleet.ssh.transport.watchdog import Watchdog

WAYS = ("sftp", "scp", "exec")
MODE = 0o600
SCP_CHUNK_BYTES = 32 << 10
# The libraries' own deadlines come later than the watch, which alone says that nothing moves.
LATER_S = 5.0
DONE = b"fleet-done"
PIECE_BYTES = 32 << 10
"""After each the far end is asked: where fewer bytes than this arrive within the deadline, nothing moves."""
# What may be on its way unanswered. Half a second or so of the link's time: enough for a fast one, and little that waits
# in a buffer where fifty hosts share a slow one.
MIN_ON_THE_WAY_BYTES = 16 << 10
MAX_ON_THE_WAY_BYTES = 1 << 20
QUICK_S = 0.5
SLOW_S = 2.0


def upload(
    link: Link,
    data: bytes,
    remote_path: str,
    *,
    how: str = "auto",
    rate: Rate = UNLIMITED,
    proceed: Callable[[], None] = lambda: None,
) -> str:
    """Which of `WAYS` brought the bytes to `remote_path`: `auto` tries them in turn; sudo needs the exec channel.

    `proceed` is called again and again; what it raises ends the upload. Raises `HostRefused` when the host takes the bytes
    in no way, `LinkError` when the link failed.
    """
    failures = []
    for way in _ways(link, how):
        part = f"{remote_path}.{secrets.token_hex(4)}"
        with transferring(link, remote_path) as watch:
            try:
                _SENDERS[way](link, Source(data, link, watch, rate, proceed), len(data), part, remote_path)
                return way
            except (*LIBRARY_ERRORS, SCPException, paramiko.SFTPError) as error:
                failures.append(f"{way}: {safe(str(error)).strip() or type(error).__name__}")
        _discard(link, part)
    raise HostRefused(
        "upload_failed",
        f"{remote_path} could not be written ({'; '.join(failures)}).",
        "See that there is room on that disk and that the login may write there.",
    )


@contextmanager
def transferring(link: Link, what: str) -> Iterator[Watchdog]:
    """The watch over an upload. Raises `LinkError` when it, or the link, has ended before the upload did."""
    idle_s = link.deadlines.transfer_idle_s
    with link.watchdog(idle_s) as watch:
        try:
            yield watch
        except LinkError as failure:
            if not watch.fired and failure.reason == "no_answer":
                raise _stalled(f"The upload of {what} came to a halt. {failure.message}") from failure
            if not watch.fired:
                raise
    if watch.fired:
        raise _stalled(f"The upload of {what} made no progress for {idle_s:g} s.")
    if not link.is_active:
        raise LinkError("link_lost", f"The connection was lost in the upload of {what}.", "Try again.")


def _stalled(message: str) -> LinkError:
    return LinkError("transfer_stalled", message, "Look at the link to the host and at the host's disk.")


def _ways(link: Link, how: str) -> tuple[str, ...]:
    if link.host.become and link.host.user != "root":
        return ("exec",)
    return WAYS if how == "auto" else (how,)


class _Piece(NamedTuple):
    """Bytes on their way, and the number of the question whose answer says that they have arrived."""

    number: int
    size_bytes: int
    asked_at: float


class Source:
    """Bytes to send, as a file that tells the watch whenever what was taken has arrived, and gives no more than the
    rate allows."""

    def __init__(
        self,
        data: bytes,
        link: Link,
        watch: Watchdog,
        rate: Rate = UNLIMITED,
        proceed: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = io.BytesIO(data)
        self._transport = link.transport
        self._watch = watch
        self._rate = rate
        self._proceed = proceed
        self._room_bytes = MIN_ON_THE_WAY_BYTES
        self._on_the_way_bytes = 0
        self._unasked_bytes = 0
        self._asked: deque[_Piece] = deque()

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes, nothing at the end. Raises OSError when the link is gone."""
        self._go_on()
        if self._unasked_bytes >= MIN_ON_THE_WAY_BYTES:
            self._ask()
        while self._asked and self._asked[0].number <= self._transport.answered:
            self._arrive()
        while self._room_bytes - self._on_the_way_bytes < MIN_ON_THE_WAY_BYTES and self._on_the_way_bytes:
            self._arrive()
        most_bytes = min(PIECE_BYTES, self._room_bytes - self._on_the_way_bytes)
        data = self._source.read(self._rate.portion(most_bytes if size < 0 else min(size, most_bytes)))
        if not data:
            self._arrive_all()
        self._rate.take(len(data), self._wait)
        self._on_the_way_bytes += len(data)
        self._unasked_bytes += len(data)
        return data

    def write_to(self, command: Command, idle_s: float) -> None:
        """All of it was taken by the command's stdin. Raises OSError."""
        for block in iter(self.read, b""):
            command.write_all(memoryview(block), idle_s)

    def progressed(self) -> None:
        """There was progress, though no byte of this was taken."""
        self._watch.progressed()

    def _ask(self) -> None:
        """The far end is asked whether it has what was taken since it was asked before."""
        self._asked.append(_Piece(self._transport.ask(self._watch.progressed), self._unasked_bytes, time.monotonic()))
        self._unasked_bytes = 0

    def _arrive(self) -> None:
        """The far end has the eldest piece that is on its way; the quicker it said so, the more may be on the way."""
        if not self._asked:
            self._ask()
        piece = self._asked[0]
        while not self._transport.wait_for_answer(piece.number):
            self._go_on()
        self._asked.popleft()
        took_s = time.monotonic() - piece.asked_at
        self._on_the_way_bytes -= piece.size_bytes
        if took_s < QUICK_S:
            self._room_bytes = min(self._room_bytes + piece.size_bytes, MAX_ON_THE_WAY_BYTES)
        elif took_s > SLOW_S:
            self._room_bytes = max(self._room_bytes - piece.size_bytes, MIN_ON_THE_WAY_BYTES)

    def _arrive_all(self) -> None:
        if self._unasked_bytes:
            self._ask()
        while self._asked:
            self._arrive()

    def _go_on(self) -> None:
        self._proceed()
        if not self._transport.is_active():
            raise OSError("the connection ended")

    def _wait(self) -> None:
        """It is our own rate that holds us back."""
        self._watch.progressed()
        self._go_on()

    def tell(self) -> int:
        return self._source.tell()


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


def _by_exec(link: Link, source: Source, size_bytes: int, part: str, remote_path: str) -> None:
    script = f"umask 077; cat > {shlex.quote(part)} && {_move(size_bytes, part, remote_path)}"
    _run(link, script, source.progressed, source)


_SENDERS: dict[str, Callable[[Link, Source, int, str, str], None]] = {
    "sftp": _by_sftp,
    "scp": _by_scp,
    "exec": _by_exec,
}


def _discard(link: Link, part: str) -> None:
    """What came of the file is gone, if the host lets us: the disk may be full of it."""
    with suppress(LinkError, *LIBRARY_ERRORS), link.watchdog(link.deadlines.transfer_idle_s):
        _run(link, f"rm -f {shlex.quote(part)}")


def _move(size_bytes: int, part: str, remote_path: str) -> str:
    """A cut link ends `cat` like the end of the file does: the size tells them apart."""
    quoted = shlex.quote(part)
    return f"[ $(wc -c < {quoted}) -eq {size_bytes} ] && mv -f {quoted} {shlex.quote(remote_path)}"


def _run(link: Link, script: str, progressed: Callable[[], None] = lambda: None, source: Source | None = None) -> None:
    """The script did it, with `source` on its stdin. Raises OSError with its complaint.

    `progressed` is called while the login only begins: one that is slow then is not an upload that stalls.
    """
    command = RootCommand.run_shell(link, f"{script} && echo && echo {DONE.decode()}")
    idle_s = link.deadlines.transfer_idle_s + LATER_S
    done = False
    if command.begin(progressed):
        if source is not None:
            # What the script complains of says more than that it didn't take everything.
            with suppress(OSError):
                source.write_to(command, idle_s)
        command.close_stdin()
        for line in command.lines(lambda: idle_s):
            done = done or line == DONE
    complaint = command.stderr
    command.close()
    if not done:
        raise OSError(complaint or "it ended without a word")
