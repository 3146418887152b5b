"""Bastions: one opened connection for all the hosts behind each, shared by every visit of this process.

Fabric would log in at the bastion once for each host. A connection that died is dialled again, by one of those who need
it while the others wait, and share what becomes of it: two hundred hosts behind a dead bastion cost one deadline, not two
hundred. That it was lost is told once. A frozen one looks alive, so it is asked when a host behind it can't be reached.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, Protocol

import paramiko

from fleet.onhost.text import safe
from fleet.ssh.link_errors import LinkError
from fleet.ssh.openssh_config import Settings


class Link(Protocol):
    """What a bastion needs of a connection (`connection.Link`)."""

    @property
    def transport(self) -> Any: ...
    @property
    def is_active(self) -> bool: ...
    def open(self) -> None: ...
    def check_alive(self) -> None: ...
    def close(self) -> None: ...


MakeLink = Callable[[Settings], Link]
Notify = Callable[[str, str], None]
"""Tells the operator of something that befell the way to the hosts: a reason word and a message."""
REDIAL_S = 60.0
"""How long a lost bastion is dialled before the hosts behind it count as unreachable."""
MAX_LOSSES = 3
"""How often its connection may break while we ask it for one and the same host."""
REFUSED_S = 60.0
"""How long a refused login holds for all hosts behind it: after five of them fail2ban shuts an address out."""
PROHIBITED, CONNECT_FAILED = 1, 2
"""Why an sshd opens no channel (RFC 4254, 5.1)."""


def channel_through(to: Settings, connect_s: float, notify: Notify, make: MakeLink) -> Any:
    """A channel to a host, through the one connection of its bastion, which `make` makes. Raises `LinkError`."""
    if to.jump is None:
        raise ValueError(f"{to.endpoint} has no bastion")
    return _ALL.of(to.jump).channel(to, connect_s, notify, make)


def close_bastions() -> None:
    """No connection to a bastion is left; who waits for one gives up."""
    _ALL.close()


class _BastionChannel:
    """A channel that takes a socket's place.

    paramiko closes it in a thread of its own, where a failure (the connection to the bastion may be gone) would be printed
    on the operator's screen. And its `shutdown` may send an end of file after the close that another thread sends just
    then, for which an sshd ends the connection, with every host behind it: so that is a close, too, which goes out whole.
    Nor does paramiko keep bytes that one thread sends from going out after the close of another, when the bastion may have
    given the channel's number to the next host: they would break into its stream. So one thread sends at a time. None does
    for long: a transport gives each of its writes a tenth of a second.
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._sending = threading.Lock()

    def send(self, data: bytes) -> int:
        with self._sending:
            return self._channel.send(data)

    def close(self) -> None:
        with self._sending, suppress(EOFError, OSError, paramiko.SSHException):
            self._channel.close()

    def shutdown(self, how: int) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


class _Bastions:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bastions: dict[Settings, _Bastion] = {}

    def of(self, settings: Settings) -> "_Bastion":
        with self._lock:
            return self._bastions.setdefault(settings, _Bastion(settings))

    def close(self) -> None:
        with self._lock:
            ended, self._bastions = list(self._bastions.values()), {}
        # The last ones were opened through the first ones.
        for bastion in reversed(ended):
            bastion.close()


_ALL = _Bastions()


class _Bastion:
    """One bastion: its connection, if it has one that let us in. `_dialling` is held by whoever makes a new one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._dialling = threading.Lock()
        self._dials = 0
        self._failed: LinkError | None = None
        self._failed_at = 0.0
        self._is_lost = False
        self._link: Link | None = None
        self._coming: Link | None = None
        self._closed = threading.Event()

    def close(self) -> None:
        self._closed.set()
        for link in (self._link, self._coming):
            if link is not None:
                link.close()

    def channel(self, to: Settings, connect_s: float, notify: Notify, make: MakeLink) -> Any:
        said = ""
        for _ in range(MAX_LOSSES):
            link = self._opened(notify, make)
            began_at = time.monotonic()
            try:
                return _BastionChannel(
                    link.transport.open_channel(
                        "direct-tcpip", (to.hostname, to.port), ("127.0.0.1", 0), timeout=connect_s
                    )
                )
            except paramiko.ChannelException as error:
                raise self._refused(to, error) from error
            except (LinkError, paramiko.SSHException, EOFError, OSError) as error:
                late = time.monotonic() - began_at >= connect_s
                if late and self._answers(link):
                    raise _timed_out(self._settings, to, connect_s) from error
                said = safe(str(error))
                link.close()
        raise _hung_up(self._settings, to, said)

    def _answers(self, link: Link) -> bool:
        with suppress(LinkError):
            link.check_alive()
            return True
        return False

    def _opened(self, notify: Notify, make: MakeLink) -> Link:
        """The connection that is there, or a new one. Raises `LinkError` when none could be made in time."""
        link = self._link
        if link is not None and link.is_active:
            return link
        dials = self._dials
        with self._dialling:
            if self._link is not None and self._link.is_active:
                return self._link
            if self._failed is not None and (self._dials != dials or self._refuses()):
                raise _not_reached(self._settings, self._failed)
            try:
                self._link = self._dialled_again(notify, make)
                self._failed = None
                return self._link
            except LinkError as failure:
                self._failed, self._failed_at = failure, time.monotonic()
                raise _not_reached(self._settings, failure) from failure
            finally:
                self._dials += 1

    def _refuses(self) -> bool:
        """Whether it refused our login just now."""
        refused = self._failed is not None and self._failed.reason == "auth_failed"
        return refused and time.monotonic() < self._failed_at + REFUSED_S

    def _dialled_again(self, notify: Notify, make: MakeLink) -> Link:
        """A new connection; for one that was lost just now we have patience. Raises `LinkError`."""
        patience_s = 0.0
        if self._link is not None:
            self._link, self._is_lost, patience_s = None, True, REDIAL_S
            notify(
                "bastion_lost", f"the connection to the bastion {self._settings.endpoint} was lost: dialling it again"
            )
        link = self._dialled(notify, make, patience_s)
        if self._is_lost:
            self._is_lost = False
            notify("bastion_back", f"the bastion {self._settings.endpoint} is connected again")
        return link

    def _dialled(self, notify: Notify, make: MakeLink, patience_s: float) -> Link:
        """A new connection: dialled again while nobody answers, for as long as our patience lasts."""
        ends_at = time.monotonic() + patience_s
        pause_s = 0.5
        while True:
            self._coming = link = make(self._settings)
            self._refuse_if_closed()
            try:
                link.open()
                return link
            except LinkError as failure:
                link.close()
                if not failure.may_pass or time.monotonic() + pause_s >= ends_at:
                    raise
                notify("bastion_away", f"the bastion is not back yet, and is dialled again: {failure.message}")
            self._closed.wait(pause_s * Random().uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, 8.0)

    def _refuse_if_closed(self) -> None:
        if self._closed.is_set():
            raise LinkError("cut", "The visit was cut off by the operator before it began.")

    def _refused(self, to: Settings, error: paramiko.ChannelException) -> LinkError:
        said = safe(error.text or "")
        if error.code == CONNECT_FAILED:
            # OpenSSH says no more than "Connect failed".
            return LinkError(
                "unreachable_from_bastion",
                f"The bastion {self._settings.endpoint} can't connect to {to.endpoint}: {said}.",
                "See that the host is up, that sshd runs there, and that the bastion may reach it.",
            )
        return LinkError(
            "jump_refused",
            f"The bastion {self._settings.endpoint} passes no connection on to {to.endpoint}: {said or error}.",
            "Look at AllowTcpForwarding, PermitOpen and DisableForwarding in its sshd_config, and at its authorized_keys.",
        )


def _timed_out(bastion: Settings, to: Settings, connect_s: float) -> LinkError:
    return LinkError(
        "timed_out",
        f"{to.endpoint} did not answer the bastion {bastion.endpoint} within {connect_s:g} s.",
        "See that the host is up and that no firewall swallows the connection.",
        may_pass=True,
    )


def _hung_up(bastion: Settings, to: Settings, said: str) -> LinkError:
    return LinkError(
        "jump_refused",
        f"The bastion {bastion.endpoint} let us in and hung up, {MAX_LOSSES} times, when it was asked for a connection to "
        f"{to.endpoint}: {said}.",
        "Look at the bastion's sshd log; try it by hand: ssh -J.",
    )


def _not_reached(bastion: Settings, failure: LinkError) -> LinkError:
    """The same failure, told as the bastion's: it is about none of the hosts behind it."""
    kind: Any = type(failure)
    found: LinkError = kind(
        failure.reason, f"The bastion {bastion.endpoint} can't be passed: {failure.message}", failure.remedy
    )
    return found
