"""The byte stream that an SSH connection runs over: TCP, a ProxyCommand's pipes, or a channel through a bastion."""

import os
import signal
import socket
import subprocess
from contextlib import suppress
from typing import Any

from fleet.ssh.bastion import MakeLink, Tell, channel_through
from fleet.ssh.dial import dial
from fleet.ssh.resolve import Settings
from fleet.ssh.trouble import Trouble
from fleet.task import Deadlines


def stream_to(settings: Settings, deadlines: Deadlines, tell: Tell, make: MakeLink) -> Any:
    """What paramiko takes for a socket, connected to the host; `make` makes a bastion's connection. Raises `Trouble`."""
    if settings.jump is not None:
        return channel_through(settings, deadlines, tell, make)
    if settings.proxy_command is not None:
        return _CommandSocket.start(settings.proxy_command)
    return dial(settings, deadlines.connect_s)


def close_stream(stream: Any) -> None:
    """The stream is closed, also for a thread that waits on it; the far end is told."""
    with suppress(OSError, EOFError):  # closed already: just what is wanted
        stream.shutdown(socket.SHUT_RDWR)
    stream.close()


class _CommandSocket(socket.socket):
    """Our end of a ProxyCommand's stdin and stdout. The command is a process group of its own, ended with the stream."""

    process: "subprocess.Popen[bytes]"

    @classmethod
    def start(cls, command: str) -> "_CommandSocket":
        """The command was begun, as OpenSSH begins it: by the shell, which it replaces. Raises `Trouble`."""
        ours, theirs = socket.socketpair()
        with theirs:
            found = cls(fileno=ours.detach())
            try:
                found.process = subprocess.Popen(
                    ["/bin/sh", "-c", f"exec {command}"],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            except OSError as error:
                socket.socket.close(found)
                raise Trouble("proxy_failed", f"The ProxyCommand can't be run: {error}.", "Run it by hand.") from error
        return found

    def close(self) -> None:
        super().close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        if self.process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
