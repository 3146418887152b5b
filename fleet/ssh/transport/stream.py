"""The byte stream that an SSH connection runs over: TCP, a ProxyCommand's pipes, or a channel through a bastion."""

import os
import re
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from typing import Any, BinaryIO

from fleet.onhost.text import safe
from fleet.ssh.link_errors import LinkError
from fleet.ssh.openssh_config import Settings
from fleet.ssh.transport.bastion import MakeLink, Notify, channel_through
from fleet.ssh.transport.dial import dial

MAX_WORDS_BYTES = 2048
# An `ssh -W` that met MaxStartups at its bastion, before it had said who it is.
TURNED_AWAY = re.compile(r"exchange_identification: (read: )?Connection (closed|reset)")
# Its output ends a moment before it does.
LAST_WORDS_S = 0.5


def stream_to(settings: Settings, connect_s: float, notify: Notify, make: MakeLink) -> Any:
    """What paramiko takes for a socket, connected to the host; `make` makes a bastion's connection. Raises `LinkError`."""
    if settings.jump is not None:
        return channel_through(settings, connect_s, notify, make)
    if settings.proxy_command is not None:
        return _CommandSocket.start(settings.proxy_command)
    return dial(settings, connect_s)


def close_stream(stream: Any) -> None:
    """The stream is closed, also for a thread that waits on it; the far end is told."""
    with suppress(OSError, EOFError):  # closed already: just what is wanted
        stream.shutdown(socket.SHUT_RDWR)
    stream.close()
    if isinstance(stream, _CommandSocket):
        stream.said.close()


def complaint(stream: Any) -> LinkError | None:
    """What a ProxyCommand that has ended by itself said, as the failure that it is; `None` for anything else."""
    return stream.complaint() if isinstance(stream, _CommandSocket) else None


class _CommandSocket(socket.socket):
    """Our end of a ProxyCommand's stdin and stdout. The command is a process group of its own, ended with the stream.

    `by_itself` is whether the command ended it, `None` while nobody has: one that we end has nothing to answer for.
    """

    by_itself: bool | None = None
    command: str
    process: "subprocess.Popen[bytes]"
    said: BinaryIO

    @classmethod
    def start(cls, command: str) -> "_CommandSocket":
        """The command was begun, as OpenSSH begins it: by the shell, which it replaces. Raises `LinkError`."""
        ours, theirs = socket.socketpair()
        with theirs:
            found = cls(fileno=ours.detach())
            found.command, found.said = command, tempfile.TemporaryFile()  # noqa: SIM115  # closed with the stream
            try:
                found.process = subprocess.Popen(
                    ["/bin/sh", "-c", f"exec {command}"],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=found.said,
                    start_new_session=True,
                )
            except OSError as error:
                found.said.close()
                socket.socket.close(found)
                raise LinkError(
                    "proxy_failed", f"The ProxyCommand can't be run: {error}.", "Run it by hand."
                ) from error
        return found

    def complaint(self) -> LinkError | None:
        """Its last words, if it has ended by itself."""
        if not self.by_itself:
            return None
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(LAST_WORDS_S)
        if self.process.poll() is None or self.said.closed:
            return None
        self.said.seek(max(0, self.said.seek(0, os.SEEK_END) - MAX_WORDS_BYTES))
        words = safe(self.said.read().decode("utf-8", "replace")).strip()
        said = f"The ProxyCommand ended with status {self.process.returncode}{': ' + words if words else ''}."
        remedy = f"Run it by hand: {self.command}"
        if TURNED_AWAY.search(words):
            return LinkError("proxy_turned_away", said, f"{remedy}. It may need more MaxStartups there.", may_pass=True)
        return LinkError("proxy_failed", said, remedy, may_pass=True)

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        try:
            data = super().recv(size, flags)
        except TimeoutError:
            raise
        except OSError:
            self._ends(by_itself=True)
            raise
        if not data:
            self._ends(by_itself=True)
        return data

    def shutdown(self, how: int, /) -> None:
        self._ends(by_itself=False)
        super().shutdown(how)

    def _ends(self, *, by_itself: bool) -> None:
        if self.by_itself is None:
            self.by_itself = by_itself

    def close(self) -> None:
        """What it said is kept: paramiko closes its socket by itself, before anybody can ask."""
        self._ends(by_itself=self.process.poll() is not None)
        super().close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        if self.process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
