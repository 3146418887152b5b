"""One SSH connection to one host, by Fabric, with explicit values only.

Fabric's `Connection` reads ~/.fabric.yaml and ssh_config, accepts any host key and mirrors the operator's stdin;
paramiko waits without deadlines. Here nothing is read from files but what `openssh_config` resolved, the socket is
fleet's own, `hostkeys` judges host keys, each stage has a deadline and a watchdog guards all of them. Commands run through
`remote.command.Command`, never through Fabric's `run`.
"""

import logging
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

import paramiko
from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from fabric import Config, Connection
from paramiko.ssh_exception import IncompatiblePeer

from fleet.host import Host
from fleet.onhost.text import safe
from fleet.ssh.auth.login import Login
from fleet.ssh.auth.secrets import SECRETS, SecretKind
from fleet.ssh.hostkeys.acceptance import KnownHost, PresentedKey, known_host_for, presented
from fleet.ssh.link_errors import LinkError, NoAnswer
from fleet.ssh.openssh_config import Settings, resolve
from fleet.ssh.transport.bastion import Notify
from fleet.ssh.transport.paramiko_transport import KEX_TIMEOUT_S, HostKeyPolicy, Transport, new_transport
from fleet.ssh.transport.stream import close_stream, proxy_error, run_by_hand, stream_to, wait_longer
from fleet.ssh.transport.watchdog import Watchdog
from fleet.task import PLAIN, Connecting, Deadlines

T = TypeVar("T")

# A hostile or broken peer makes paramiko's parser fail in its own thread; paramiko raises that exception in the caller's.
LIBRARY_ERRORS = (
    paramiko.SSHException,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    struct.error,
    InvalidSignature,
    InvalidTag,
    UnsupportedAlgorithm,
)
QUIET_S = 10.0
TURNED_AWAY = ("no_banner", "handshake_failed", "proxy_turned_away")
MAX_LOGINS = 5
RETRY_S = 0.25
MAX_HANDSHAKES = 8
"""Logins at one sshd at a time. OpenSSH starts to drop connections at 10 unauthenticated ones (MaxStartups)."""

# Without a handler of their own, these loggers print to stderr and break the live view.
for _name in ("paramiko", "fabric", "invoke"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class _LoginLimits:
    """Limits how many logins at one sshd run at a time, so that sshd drops none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[tuple[Settings | None, str, int], threading.Semaphore] = {}

    def slot(self, settings: Settings) -> threading.Semaphore:
        """A semaphore to hold during a login."""
        with self._lock:
            there = (settings.jump, settings.hostname, settings.port)
            return self._slots.setdefault(there, threading.Semaphore(MAX_HANDSHAKES))


_LOGIN_LIMITS = _LoginLimits()


class Link:
    """An SSH connection to a host. Any thread may close it, which ends every wait on it."""

    def __init__(
        self,
        host: Host,
        deadlines: Deadlines,
        connecting: Connecting = PLAIN,
        *,
        settings: Settings | None = None,
        notify: Notify = lambda reason, message: None,
    ) -> None:
        self.host = host
        self.deadlines = deadlines if settings is None else _as_configured(deadlines, settings)
        self._given = deadlines
        self._connecting = connecting
        self._settings = settings
        self._notify = notify
        self.fabric: Any = None  # Fabric's `Connection`
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._stream: Any = None
        self._login: Login | None = None
        self._transport: Transport | None = None

    def open(self) -> None:
        """Connects, checks the host key and logs in. Raises `LinkError`.

        A login that a busy sshd dropped before the key exchange is tried again: nothing can have happened on the host.
        """
        settings = self.settings
        known = known_host_for(settings)
        self._tried(settings, lambda: self._open(settings, known))

    def presented_key(self) -> PresentedKey:
        """The key that the host presents. fleet logs in at the bastions before it only. Raises `LinkError`."""
        settings = self.settings
        known = known_host_for(settings)
        return self._tried(settings, lambda: self._presented_key(settings, known))

    def _tried(self, settings: Settings, begin: Callable[[], T]) -> T:
        """The result of `begin`, which is called again while sshd drops the connection. Raises `LinkError`."""
        tries = 0
        while True:
            tries += 1
            began_at = time.monotonic()
            try:
                with _LOGIN_LIMITS.slot(settings):
                    return begin()
            except LinkError as failure:
                at_once = time.monotonic() - began_at < self.deadlines.banner_s
                # A bastion's error may have the same reason; the bastion's own link has tried again already.
                turned_away = failure.may_pass and failure.reason in TURNED_AWAY
                if not turned_away or not at_once or tries == MAX_LOGINS or self._closed.is_set():
                    raise
                self._notify(failure.reason, f"Login {tries} was dropped; fleet tries again. {failure.message}")
            self._closed.wait(RETRY_S * 2**tries * Random().uniform(0.5, 1.0))

    @property
    def settings(self) -> Settings:
        """How to connect to the host. Raises `LinkError` when ssh_config can't be read."""
        if self._settings is None:
            self._settings = resolve(self.host, self._connecting)
            self.deadlines = _as_configured(self._given, self._settings)
        return self._settings

    def _open(self, settings: Settings, known: KnownHost) -> None:
        self._refuse_if_closed()
        password = SECRETS.get(SecretKind.LOGIN) if self._connecting.ask_password else None
        self._login = login = Login(settings, self.deadlines.auth_s, password)
        stream = self._streaming(settings)
        self.fabric = _connection(settings, self.deadlines, login, stream)
        self.fabric.client.set_missing_host_key_policy(HostKeyPolicy(settings, known, self._notify))
        self.fabric.connect_kwargs["transport_factory"] = self._transport_factory(known)
        try:
            with self.watchdog(self.deadlines.banner_s + KEX_TIMEOUT_S + self.deadlines.auth_s):
                self.fabric.open()
            wait_longer(stream)
        except LinkError:
            self._drop()
            raise
        except LIBRARY_ERRORS as error:
            failure = proxy_error(stream) or _explain(settings, self.deadlines, self._transport, login, error)
            self._drop()
            raise failure from error

    def _presented_key(self, settings: Settings, known: KnownHost) -> PresentedKey:
        stream = self._streaming(settings)
        self._transport = transport = new_transport(stream, known)
        transport.banner_timeout = self.deadlines.banner_s
        try:
            with self.watchdog(self.deadlines.banner_s + KEX_TIMEOUT_S):
                transport.start_client()
                return presented(transport.get_remote_server_key())
        except LIBRARY_ERRORS as error:
            raise proxy_error(stream) or _explain(settings, self.deadlines, transport, None, error) from error
        finally:
            self._drop()

    def _streaming(self, settings: Settings) -> Any:
        """A byte stream to the host. `close` closes it from now on."""
        self._refuse_if_closed()
        stream = stream_to(settings, self.deadlines.connect_s, self._notify, self._bastion)
        with self._lock:
            self._stream = stream
        if self._closed.is_set():
            self._drop()
            self._refuse_if_closed()
        return stream

    def _bastion(self, settings: Settings) -> "Link":
        """A connection to a bastion before this host, not open yet."""
        host = Host(name=settings.hostname, address=settings.hostname)
        return Link(host, self._given, settings=settings, notify=self._notify)

    def _refuse_if_closed(self) -> None:
        if self._closed.is_set():
            raise LinkError("cut", "The run was cut off before this visit sent a request.", "Run fleet status.")

    @property
    def alive_interval_s(self) -> float:
        """After how many seconds without data fleet sends a keepalive (ServerAliveInterval)."""
        return self._settings.alive_every_s if self._settings and self._settings.alive_every_s else QUIET_S

    @property
    def alive_timeout_s(self) -> float:
        """How many seconds the answer may take (ServerAliveCountMax times the interval)."""
        if self._settings is None or not self._settings.alive_every_s:
            return self.deadlines.channel_s
        return self._settings.alive_every_s * max(1, self._settings.alive_misses)

    @property
    def transport(self) -> Transport:
        """paramiko's transport. Raises `LinkError` when the connection is lost."""
        if self._transport is None or not self._transport.is_active():
            raise LinkError("link_lost", "The connection was lost.", "Run fleet status.")
        return self._transport

    @property
    def is_active(self) -> bool:
        """Whether the connection seems alive. A cut link seems alive for a while."""
        return self._transport is not None and self._transport.is_active()

    def watchdog(self, idle_s: float) -> Watchdog:
        """A context manager: `idle_s` seconds without progress close the link."""
        return Watchdog(self.close, idle_s)

    def check_alive(self) -> None:
        """Sends a keepalive and waits for the answer. Raises `NoAnswer`, or `LinkError` when the connection is lost."""
        with self.watchdog(self.alive_timeout_s) as watch:
            try:
                self.ping()
            except OSError as error:
                if not watch.fired:
                    raise LinkError(
                        "link_lost", f"The connection was lost: {safe(str(error))}.", "Run fleet status."
                    ) from error
        if watch.fired:
            raise NoAnswer(
                "no_answer",
                f"The host's sshd answered no keepalive for {self.alive_timeout_s:g} s: the host or the network hangs.",
                "Look at the host's console; then run fleet status.",
            )

    def ping(self) -> None:
        """Waits for the answer to a keepalive, by which all that was sent before has arrived, too. It has no deadline, but
        `close` ends the wait. Raises OSError when the connection is lost."""
        try:
            if self._transport is not None:
                number = self._transport.send_keepalive()
                while not self._transport.wait_for_answer(number) and self.is_active:
                    pass
        except (paramiko.SSHException, EOFError) as error:
            raise OSError(str(error)) from error
        if not self.is_active:
            raise OSError("the connection ended")

    def close(self) -> None:
        """Closes the connection, also for a thread that waits on it."""
        self._closed.set()
        self._drop()

    def _drop(self) -> None:
        """Closes what this login opened. Another login may follow."""
        with self._lock:
            stream = self._stream
        if stream is not None:
            close_stream(stream)
        if self._transport is not None:
            self._transport.close()
        if self.fabric is not None:
            self.fabric.client.close()
        if self._login is not None:
            self._login.close()

    def _transport_factory(self, known: KnownHost) -> Any:
        """A factory that keeps the transport it makes, so that `close` can close it whatever Fabric does."""

        def make(sock: socket.socket, disabled_algorithms: Any = None) -> paramiko.Transport:
            self._transport = transport = new_transport(sock, known, disabled_algorithms)
            return transport

        return make


def _as_configured(deadlines: Deadlines, settings: Settings) -> Deadlines:
    """The deadlines, with ssh_config's ConnectTimeout for this hop."""
    if settings.connect_timeout_s is None:
        return deadlines
    return replace(deadlines, connect_s=settings.connect_timeout_s)


def _connection(settings: Settings, deadlines: Deadlines, login: Login, stream: Any) -> Any:
    """A Fabric connection, not open yet. Each gets a new dict of arguments, because Fabric changes it."""
    arguments: dict[str, Any] = {
        "sock": stream,
        "banner_timeout": deadlines.banner_s,
        "auth_timeout": deadlines.auth_s,
        "channel_timeout": deadlines.channel_s,
        "auth_strategy": login,
    }
    config = Config(lazy=True, overrides={"load_ssh_configs": False, "run": {"in_stream": False}})
    return Connection(
        settings.hostname,
        user=settings.user,
        port=settings.port,
        config=config,
        forward_agent=False,
        connect_kwargs=arguments,
    )


def _explain(
    settings: Settings, deadlines: Deadlines, transport: Any, login: Login | None, error: BaseException
) -> LinkError:
    """The error, named by the stage that the connection had reached: paramiko's texts don't tell the stages apart."""
    there = settings.endpoint
    detail = safe(str(error) or type(error).__name__)
    if isinstance(error, IncompatiblePeer):
        return LinkError(
            "incompatible",
            f"{there} and fleet have no common algorithm: {detail}.",
            "Update its sshd (OpenSSH before 7.2 is too old), or allow modern algorithms in its sshd_config.",
        )
    if transport is None or not transport.remote_version:
        if settings.jump is None and settings.proxy_command is not None:
            return LinkError(
                "no_banner",
                f"The ProxyCommand for {there} runs, but passed on no SSH banner within {deadlines.banner_s:g} s.",
                run_by_hand(settings.proxy_command),
                may_pass=True,
            )
        return LinkError(
            "no_banner",
            f"{there} accepts connections and sent no SSH banner within {deadlines.banner_s:g} s ({detail}): "
            "it is no SSH server, or too busy.",
            "On the host, see what listens there (ss -ltnp); if it is sshd, look at its log and at MaxStartups.",
            may_pass=True,
        )
    if not transport.initial_kex_done or login is None:
        return LinkError(
            "handshake_failed",
            f"{there} answers, but the key exchange failed: {detail}.",
            f"Try `ssh -v -p {settings.port} {settings.hostname}`, and look at the host's sshd log.",
            may_pass=True,
        )
    return LinkError("link_lost", f"{there} closed the connection during the login: {detail}.", "Look at its sshd log.")
