"""One SSH connection to one host, by Fabric, with nothing left to chance or to files that we don't know.

Fabric's `Connection` reads ~/.fabric.yaml and ssh_config, accepts any host key and mirrors the operator's stdin;
paramiko waits without deadlines. So: explicit values only, our own socket, host keys judged by `hostkeys`, a deadline
for each stage and a watch over all of them. Commands run through `command.Command`, never through Fabric's `run`.
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
from fleet.ssh.link_errors import LinkError
from fleet.ssh.openssh_config import Settings, resolve
from fleet.ssh.transport.bastion import Notify
from fleet.ssh.transport.paramiko_transport import KEX_TIMEOUT_S, HostKeyPolicy, Transport, new_transport
from fleet.ssh.transport.stream import close_stream, complaint, stream_to
from fleet.ssh.transport.watchdog import Watchdog
from fleet.task import PLAIN, Connecting, Deadlines

T = TypeVar("T")

# A hostile or broken peer makes paramiko's parser fail in its own thread, and that exception is raised in ours.
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
"""With one sshd at a time: OpenSSH begins to turn logins away at 10 that have not ended (MaxStartups)."""

# Without a handler of their own, these print through logging's last resort and tear the live view.
for _name in ("paramiko", "fabric", "invoke"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class _LoginLimits:
    """Lets so many logins at one sshd begin that it turns none away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[tuple[Settings | None, str, int], threading.Semaphore] = {}

    def slot(self, settings: Settings) -> threading.Semaphore:
        """Entered for the time of a login."""
        with self._lock:
            there = (settings.jump, settings.hostname, settings.port)
            return self._slots.setdefault(there, threading.Semaphore(MAX_HANDSHAKES))


_LOGIN_LIMITS = _LoginLimits()


class Link:
    """An SSH connection to a host. It can be closed from any thread, which ends whatever waits on it."""

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
        """The connection is there, the host's key is a known one, and it let us in. Raises `LinkError`.

        A login that a busy sshd turned away before the key exchange is tried again: nothing can have happened.
        """
        settings = self.settings
        known = known_host_for(settings)
        self._tried(settings, lambda: self._open(settings, known))

    def presented_key(self) -> PresentedKey:
        """The key that the host shows. Nobody logs in, but at the bastions before it. Raises `LinkError`."""
        settings = self.settings
        known = known_host_for(settings)
        return self._tried(settings, lambda: self._presented_key(settings, known))

    def _tried(self, settings: Settings, begin: Callable[[], T]) -> T:
        """What `begin` gives, which is called again while sshd turns us away. Raises `LinkError`."""
        tries = 0
        while True:
            tries += 1
            began_at = time.monotonic()
            try:
                with _LOGIN_LIMITS.slot(settings):
                    return begin()
            except LinkError as failure:
                at_once = time.monotonic() - began_at < self.deadlines.banner_s
                # A bastion's failure may have the same word; it was tried again by the bastion's own link.
                turned_away = failure.may_pass and failure.reason in TURNED_AWAY
                if not turned_away or not at_once or tries == MAX_LOGINS or self._closed.is_set():
                    raise
                self._notify(failure.reason, f"login {tries} was turned away and is tried again: {failure.message}")
            self._closed.wait(RETRY_S * 2**tries * Random().uniform(0.5, 1.0))

    @property
    def settings(self) -> Settings:
        """How the host is connected to. Raises `LinkError` when ssh_config can't be read."""
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
        except LinkError:
            self._drop()
            raise
        except LIBRARY_ERRORS as error:
            failure = complaint(stream) or _explain(settings, self.deadlines, self._transport, login, error)
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
            raise complaint(stream) or _explain(settings, self.deadlines, transport, None, error) from error
        finally:
            self._drop()

    def _streaming(self, settings: Settings) -> Any:
        """The bytes come through to the host; whoever closes the link from now on closes them, too."""
        self._refuse_if_closed()
        stream = stream_to(settings, self.deadlines.connect_s, self._notify, self._bastion)
        with self._lock:
            self._stream = stream
        if self._closed.is_set():
            self._drop()
            self._refuse_if_closed()
        return stream

    def _bastion(self, settings: Settings) -> "Link":
        """A connection to a bastion that this host is behind, not open yet."""
        host = Host(name=settings.hostname, address=settings.hostname)
        return Link(host, self._given, settings=settings, notify=self._notify)

    def _refuse_if_closed(self) -> None:
        if self._closed.is_set():
            raise LinkError("cut", "The visit was cut off by the operator before it began.")

    @property
    def alive_interval_s(self) -> float:
        """How long the far end may say nothing before it is asked whether it lives (ServerAliveInterval)."""
        return self._settings.alive_every_s if self._settings and self._settings.alive_every_s else QUIET_S

    @property
    def alive_timeout_s(self) -> float:
        """How long it may then take to answer (ServerAliveCountMax times the interval)."""
        if self._settings is None or not self._settings.alive_every_s:
            return self.deadlines.channel_s
        return self._settings.alive_every_s * max(1, self._settings.alive_misses)

    @property
    def transport(self) -> Transport:
        """paramiko's transport. Raises `LinkError` when the link is gone."""
        if self._transport is None or not self._transport.is_active():
            raise LinkError("link_lost", "The connection was lost.", "Ask the host again: fleet status.")
        return self._transport

    @property
    def is_active(self) -> bool:
        """Whether the connection is still thought to be there; a cut link looks like this for a while."""
        return self._transport is not None and self._transport.is_active()

    def watchdog(self, idle_s: float) -> Watchdog:
        """While it is entered, `idle_s` without progress closes the link."""
        return Watchdog(self.close, idle_s)

    def check_alive(self) -> None:
        """The far end answered us just now. Raises `LinkError` when it doesn't within the time for a channel."""
        with self.watchdog(self.alive_timeout_s) as watch:
            try:
                self.ping()
            except OSError as error:
                if not watch.fired:
                    raise LinkError("link_lost", f"The connection was lost: {safe(str(error))}.") from error
        if watch.fired:
            raise LinkError(
                "no_answer",
                f"The host's sshd did not answer for {self.alive_timeout_s:g} s: the host hangs, or something on the way.",
                "Look at the host's console; then ask again: fleet status.",
            )

    def ping(self) -> None:
        """The far end answered, and so has everything that was sent before. There is no deadline, but `close` ends the
        wait. Raises OSError when the connection is gone."""
        try:
            if self._transport is not None:
                number = self._transport.ask()
                while not self._transport.wait_for_answer(number) and self.is_active:
                    pass
        except (paramiko.SSHException, EOFError) as error:
            raise OSError(str(error)) from error
        if not self.is_active:
            raise OSError("it ended")

    def close(self) -> None:
        """The connection is gone, also for a thread that waits on it."""
        self._closed.set()
        self._drop()

    def _drop(self) -> None:
        """What this login has opened is closed; another one may begin."""
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
        """Makes the transport, and keeps it: it must be closed whatever Fabric does."""

        def make(sock: socket.socket, disabled_algorithms: Any = None) -> paramiko.Transport:
            self._transport = transport = new_transport(sock, known, disabled_algorithms)
            return transport

        return make


def _as_configured(deadlines: Deadlines, settings: Settings) -> Deadlines:
    """The deadlines with what ssh_config says of this very hop."""
    if settings.connect_timeout_s is None:
        return deadlines
    return replace(deadlines, connect_s=settings.connect_timeout_s)


def _connection(settings: Settings, deadlines: Deadlines, login: Login, stream: Any) -> Any:
    """A Fabric connection that is not open yet. The dict of arguments is its own: Fabric changes it."""
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
    """What went wrong, told by how far the connection had come: paramiko's texts are not for people."""
    there = settings.endpoint
    said = safe(str(error) or type(error).__name__)
    if isinstance(error, IncompatiblePeer):
        return LinkError(
            "incompatible",
            f"{there} and fleet have no way of encryption in common: {said}.",
            "Its sshd is too old (OpenSSH before 7.2) or its settings leave nothing modern: update it.",
        )
    if transport is None or not transport.remote_version:
        if settings.jump is None and settings.proxy_command is not None:
            return LinkError(
                "no_banner",
                f"The ProxyCommand for {there} runs, but no SSH banner came through it within {deadlines.banner_s:g} s.",
                f"Run it by hand: {settings.proxy_command}",
                may_pass=True,
            )
        return LinkError(
            "no_banner",
            f"Something accepts connections on {there}, but it is no SSH server or too busy to answer: no SSH banner "
            f"within {deadlines.banner_s:g} s ({said}).",
            "See what listens there; if it is sshd, look at its log and MaxStartups.",
            may_pass=True,
        )
    if not transport.initial_kex_done or login is None:
        return LinkError(
            "handshake_failed",
            f"{there} answers, but the key exchange did not end: {said}.",
            "Try it with ssh -v and look at the host's sshd log.",
            may_pass=True,
        )
    return LinkError("link_lost", f"{there} closed the connection during the login: {said}.", "Look at its sshd log.")
