"""The byte stream below an SSH connection: TCP, a ProxyCommand's pipes, or a channel through a bastion."""

import errno
import os
import re
import shlex
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
IDLE_PULSE_S = 5.0
# `ssh -W` says this when sshd at the bastion drops it before the login (MaxStartups).
TURNED_AWAY = re.compile(r"exchange_identification: (read: )?Connection (closed|reset)")
# A command's output ends a moment before its process does.
LAST_WORDS_S = 0.5
SHELL = "/bin/sh"
"""Runs a ProxyCommand where $SHELL names none."""
NO_SHELL = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENOEXEC, errno.EISDIR)
"""Why a program can't be started that is none."""
LOGINLESS = ("false", "true", "nologin")
"""The shells of accounts that must not log in: they run no command."""


def stream_to(settings: Settings, connect_s: float, notify: Notify, make: MakeLink) -> Any:
    """A connected stream that paramiko can use as a socket. `make` creates a bastion's connection. Raises `LinkError`."""
    if settings.jump is not None:
        return channel_through(settings, connect_s, notify, make)
    if settings.proxy_command is not None:
        return _CommandSocket.start(settings.proxy_command)
    return dial(settings, connect_s)


def wait_longer(stream: Any) -> None:
    """Once the login is done, paramiko's thread looks ten times a second whether the stream was closed, which two hundred idle
    connections feel. `close_stream` wakes a thread that waits on a socket, so it may wait longer. A bastion's channel keeps its
    short waits: other threads wait for its writes.
    """
    if isinstance(stream, socket.socket):
        stream.settimeout(IDLE_PULSE_S)


def close_stream(stream: Any) -> None:
    """Closes the stream, also for a thread that waits on it; the far end sees the end."""
    with suppress(OSError, EOFError):  # it may be closed already
        stream.shutdown(socket.SHUT_RDWR)
    stream.close()
    if isinstance(stream, _CommandSocket):
        stream.stderr.close()


def run_by_hand(command: str) -> str:
    """The remedy for a ProxyCommand: what fleet runs, for the operator to try."""
    return f"Run it by hand: `{shlex.join(_words(command))}`"


def proxy_error(stream: Any) -> LinkError | None:
    """The error of a ProxyCommand that ended by itself, with its stderr; `None` for any other stream."""
    return stream.proxy_error() if isinstance(stream, _CommandSocket) else None


def _shell() -> str:
    """The operator's shell, as ssh finds it for a ProxyCommand."""
    return os.environ.get("SHELL") or SHELL


def _words(command: str) -> list[str]:
    return [_shell(), "-c", f"exec {command}"]


def _not_started(shell: str, command: str, error: OSError) -> LinkError:
    if error.errno not in NO_SHELL:
        return LinkError("proxy_failed", f"The ProxyCommand can't be run: {error.strerror}.", run_by_hand(command))
    return LinkError(
        "proxy_failed",
        f"The ProxyCommand can't be run: your shell, {shell} ($SHELL), can't be started: {error.strerror}.",
        f"Name a shell that exists, by its whole path: `export SHELL={SHELL}`",
    )


class _CommandSocket(socket.socket):
    """fleet's end of a ProxyCommand's stdin and stdout. The command has its own process group, killed with the stream.

    `by_itself`: whether the command ended the stream; `None` while it is open. If fleet ended it, there is no error.
    """

    by_itself: bool | None = None
    command: str
    process: "subprocess.Popen[bytes]"
    stderr: BinaryIO

    @classmethod
    def start(cls, command: str) -> "_CommandSocket":
        """Starts the command as OpenSSH does: by the operator's shell, which `exec` replaces. Raises `LinkError`."""
        words = _words(command)
        ours, theirs = socket.socketpair()
        with theirs:
            found = cls(fileno=ours.detach())
            found.command, found.stderr = command, tempfile.TemporaryFile()  # noqa: SIM115  # closed with the stream
            try:
                found.process = subprocess.Popen(
                    words,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=found.stderr,
                    start_new_session=True,
                )
            except OSError as error:
                found.stderr.close()
                socket.socket.close(found)
                raise _not_started(words[0], command, error) from error
        return found

    def proxy_error(self) -> LinkError | None:
        """The error with the end of its stderr, if it ended by itself."""
        if not self.by_itself:
            return None
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(LAST_WORDS_S)
        if self.process.poll() is None or self.stderr.closed:
            return None
        self.stderr.seek(max(0, self.stderr.seek(0, os.SEEK_END) - MAX_WORDS_BYTES))
        words = safe(self.stderr.read().decode("utf-8", "replace")).strip()
        message = f"The ProxyCommand ended with status {self.process.returncode}{': ' + words if words else ''}."
        remedy = run_by_hand(self.command)
        if os.path.basename(_shell()) in LOGINLESS:
            remedy = f"Your shell, {_shell()} ($SHELL), runs no command. Name one that does: `export SHELL={SHELL}`"
        if TURNED_AWAY.search(words):
            return LinkError(
                "proxy_turned_away", message, f"Raise MaxStartups in the sshd_config there. {remedy}", may_pass=True
            )
        return LinkError("proxy_failed", message, remedy, may_pass=True)

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
        """Closes the socket and kills the command. Its stderr stays readable: paramiko may close first."""
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
