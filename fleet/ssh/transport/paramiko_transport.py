"""paramiko's transport with what it lacks: OpenSSH's order of host key types, keepalives, and limits on a peer's data.

paramiko itself is given no known key, so that it asks `HostKeyPolicy` for every host. It would request a certificate
last, and key types in an order of its own; OpenSSH requests first what known_hosts has for the host.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import paramiko
from paramiko.buffered_pipe import BufferedPipe
from paramiko.common import OPEN_FAILED_CONNECT_FAILED, cMSG_GLOBAL_REQUEST
from paramiko.packet import Packetizer

from fleet.ssh.hostkeys.acceptance import UNKNOWN, KnownHost, presented
from fleet.ssh.hostkeys.added_keys import accept
from fleet.ssh.hostkeys.certificates import SUFFIX
from fleet.ssh.openssh_config import Settings
from fleet.ssh.transport.bastion import Notify
from fleet.task import HostKeys

# These cost less CPU per byte than paramiko's first choice, on both ends.
FIRST_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")
KEX_TIMEOUT_S = 15.0
MAX_UNREAD_BYTES = 4 << 20
"""Twice the window that paramiko gives a peer."""
ALIVE = "keepalive@openssh.com"
"""A global request that no sshd knows, so that each one answers it with a failure."""
ANSWER_PULSE_S = 0.1
NEXT_SESSION_S = 2.0
NEXT_TRY_S = 0.05
MAX_PACKET_BYTES = 256 << 10
"""OpenSSH's own limit (packet.c, PACKET_MAX_SIZE)."""
MAX_BANNER_BYTES = 64 << 10
"""For the version line and the lines before it. OpenSSH reads 1024 lines of at most 8 kB."""


class HostKeyPolicy(paramiko.MissingHostKeyPolicy):
    """Accepts the known keys of a host; a new key only with `accept-new`."""

    def __init__(self, settings: Settings, known: KnownHost, notify: Notify) -> None:
        self._settings = settings
        self._known = known
        self._notify = notify

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Returns when the key is accepted; raises `LinkError` otherwise."""
        found = presented(key)
        failure = self._known.rejection(found, time.time())
        if failure is None:
            return
        if failure.reason != UNKNOWN or self._settings.host_keys is not HostKeys.ACCEPT_NEW:
            raise failure
        self._notify("host_key_accepted", accept(self._settings, found))


def new_transport(sock: socket.socket, known: KnownHost, disabled_algorithms: Any = None) -> "Transport":
    """A transport, not started yet, that requests an acceptable key first: a certificate, or a known type."""
    transport = Transport(sock, disabled_algorithms=disabled_algorithms, packetizer_class=_Packetizer)
    transport.wants_certificate = bool(known.authorities)
    transport.handshake_timeout = KEX_TIMEOUT_S
    options = transport.get_security_options()
    wanted = [name for kind in known.types for name in (RSA_SIGNATURES if kind == "ssh-rsa" else (kind,))]
    options.key_types = _first(wanted, options.key_types)
    options.ciphers = _first(FIRST_CIPHERS, options.ciphers)
    return transport


class _Packetizer(Packetizer):
    """Limits what is read: paramiko buffers all of a packet announced as 4 GB, and of a first line without an end, before
    the peer has proven its key."""

    _greeted_bytes = 0

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """`n` bytes. Raises SSHException beyond the limit."""
        if not 0 <= n <= MAX_PACKET_BYTES:
            raise paramiko.SSHException(f"it sent a packet of {n} bytes")
        found: bytes = super().read_all(n, check_rekey)
        return found

    def _read_timeout(self, timeout: float) -> bytes:
        found: bytes = super()._read_timeout(timeout)  # type: ignore[misc]  # the stubs lack it
        self._greeted_bytes += len(found)
        if self._greeted_bytes > MAX_BANNER_BYTES:
            raise paramiko.SSHException(f": more than {MAX_BANNER_BYTES >> 10} kB before its version")
        return found


class _Pipe(BufferedPipe):  # type: ignore[type-arg]  # of characters, on Python 2
    """The unread output of a command, limited: paramiko accepts more from a peer than its window allows."""

    def feed(self, data: bytes) -> None:
        if len(self) + len(data) > MAX_UNREAD_BYTES:
            raise paramiko.SSHException(f"more than {MAX_UNREAD_BYTES >> 20} MB of output are unread")
        super().feed(data)


class Transport(paramiko.Transport):
    """paramiko's transport with several keepalives at a time. The far end answers them in order: `answered` counts them."""

    wants_certificate = False
    answered = 0

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self._sending = threading.Lock()
        self._sent = 0
        self._answer = threading.Condition()
        self._on_answer: dict[int, Callable[[], None]] = {}

    def send_keepalive(self, on_answer: Callable[[], None] = lambda: None) -> int:
        """Sends a keepalive and returns its number. Its answer shows that all data sent before has arrived; then `on_answer` is
        called, in paramiko's thread.
        """
        request = paramiko.Message()
        request.add_byte(cMSG_GLOBAL_REQUEST)
        request.add_string(ALIVE)
        request.add_boolean(True)
        with self._sending:
            self._sent = number = self._sent + 1
            self._on_answer[number] = on_answer
            self._send_user_message(request)  # type: ignore[attr-defined]  # the stubs lack it
        return number

    def wait_for_answer(self, number: int) -> bool:
        """Whether the keepalive with that number is answered, or is within `ANSWER_PULSE_S`."""
        with self._answer:
            return self._answer.wait_for(lambda: self.answered >= number, ANSWER_PULSE_S)

    def _parse_request_success(self, message: paramiko.Message) -> None:
        super()._parse_request_success(message)  # type: ignore[misc]  # the stubs lack it
        self._answered()

    def _parse_request_failure(self, message: paramiko.Message) -> None:
        super()._parse_request_failure(message)  # type: ignore[misc]
        self._answered()

    def _answered(self) -> None:
        with self._answer:
            self.answered += 1
            self._answer.notify_all()
        on_answer = self._on_answer.pop(self.answered, None)
        if on_answer is not None:
            on_answer()

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """The algorithms for the host's key, the preferred first; certificates first where an authority is known."""
        found = tuple(super().preferred_keys)
        return tuple(sorted(found, key=lambda name: not name.endswith(SUFFIX))) if self.wants_certificate else found

    def open_session(
        self, window_size: int | None = None, max_packet_size: int | None = None, timeout: float | None = None
    ) -> paramiko.Channel:
        """A channel for one command. sshd counts a session for a moment after its end, and may allow only one
        (MaxSessions), so a refusal is tried again for `NEXT_SESSION_S`."""
        gives_up_at = time.monotonic() + NEXT_SESSION_S
        while True:
            try:
                found = super().open_session(window_size, max_packet_size, timeout)
                found.in_buffer, found.in_stderr_buffer = _Pipe(), _Pipe()
                return found
            except paramiko.ChannelException as error:
                if error.code != OPEN_FAILED_CONNECT_FAILED or time.monotonic() >= gives_up_at:
                    raise
            time.sleep(NEXT_TRY_S)


def _first(wanted: Iterable[str], all_of_them: Iterable[str]) -> tuple[str, ...]:
    """All of them, with the wanted ones first."""
    found = tuple(all_of_them)
    return tuple(dict.fromkeys([name for name in wanted if name in found] + list(found)))
