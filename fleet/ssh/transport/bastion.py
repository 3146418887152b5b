"""Bastions: one connection to each, shared by all visits of this process to the hosts behind it.

Fabric would log in at the bastion once for each host. When the connection is lost, one visit reconnects while the others
wait for the result: two hundred hosts behind a dead bastion cost one deadline, not two hundred. The loss is reported
once. A frozen connection looks alive, so fleet sends a keepalive when a host behind it can't be reached.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, Protocol

import paramiko

from fleet.onhost.text import safe
from fleet.ssh.link_errors import LinkError, LoginRefused
from fleet.ssh.openssh_config import Settings


class BastionLink(Protocol):
    """What a bastion needs of a connection (`connection.Link`)."""

    @property
    def transport(self) -> Any: ...
    @property
    def is_active(self) -> bool: ...
    def open(self) -> None: ...
    def check_alive(self) -> None: ...
    def close(self) -> None: ...


MakeLink = Callable[[Settings], BastionLink]
Notify = Callable[[str, str], None]
"""Tells the operator what happened on the way to the hosts: a reason word and a message."""
RECONNECT_S = 60.0
"""How long fleet tries to reconnect to a lost bastion before the hosts behind it count as unreachable."""
MAX_LOSSES = 3
"""How often its connection may break while fleet opens a channel to one host."""
REFUSED_S = 60.0
"""How long a refused login counts for all hosts behind the bastion. fail2ban blocks an address after five of them."""
PROHIBITED, CONNECT_FAILED = 1, 2
"""Why an sshd opens no channel (RFC 4254, 5.1)."""


def channel_through(to: Settings, connect_s: float, notify: Notify, make: MakeLink) -> Any:
    """A channel to a host through its bastion's shared connection, which `make` creates. Raises `LinkError`."""
    if to.jump is None:
        raise ValueError(f"{to.endpoint} has no bastion")
    return _ALL.of(to.jump).channel(to, connect_s, notify, make)


def close_bastions() -> None:
    """Closes every connection to a bastion, and ends every wait for one."""
    _ALL.close()


class _BastionChannel:
    """A channel in the place of a socket. One thread at a time sends or closes.

    paramiko closes it in a thread of its own, where an exception (the bastion may be gone) would be printed on the
    operator's screen. paramiko's `shutdown` may send EOF after another thread's close; sshd then ends the connection, with
    every host behind it, so `shutdown` is a close here. And paramiko may send one thread's data after another thread's
    close, when the bastion may have given the channel's number to the next host, whose stream the data would corrupt. No
    thread holds the lock for long: a transport gives each write a tenth of a second.
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
    """One bastion and its connection, if there is one. `_connecting` is held while a new one is made."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connecting = threading.Lock()
        self._attempts = 0
        self._failed: LinkError | None = None
        self._failed_at = 0.0
        self._is_lost = False
        self._link: BastionLink | None = None
        self._pending: BastionLink | None = None
        self._closed = threading.Event()

    def close(self) -> None:
        self._closed.set()
        for link in (self._link, self._pending):
            if link is not None:
                link.close()

    def channel(self, to: Settings, connect_s: float, notify: Notify, make: MakeLink) -> Any:
        detail = ""
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
                detail = safe(str(error))
                link.close()
        raise _disconnected(self._settings, to, detail)

    def _answers(self, link: BastionLink) -> bool:
        with suppress(LinkError):
            link.check_alive()
            return True
        return False

    def _opened(self, notify: Notify, make: MakeLink) -> BastionLink:
        """The open connection, or a new one. Raises `LinkError` when none could be made in time."""
        link = self._link
        if link is not None and link.is_active:
            return link
        attempts = self._attempts
        with self._connecting:
            if self._link is not None and self._link.is_active:
                return self._link
            if self._failed is not None and (self._attempts != attempts or self._refuses()):
                raise _not_reached(self._settings, self._failed)
            try:
                self._link = self._reconnected(notify, make)
                self._failed = None
                return self._link
            except LinkError as failure:
                self._failed, self._failed_at = failure, time.monotonic()
                raise _not_reached(self._settings, failure) from failure
            finally:
                self._attempts += 1

    def _refuses(self) -> bool:
        """Whether it refused fleet's login less than `REFUSED_S` ago."""
        return isinstance(self._failed, LoginRefused) and time.monotonic() < self._failed_at + REFUSED_S

    def _reconnected(self, notify: Notify, make: MakeLink) -> BastionLink:
        """A new connection, tried for `RECONNECT_S` if there was one before. Raises `LinkError`."""
        patience_s = 0.0
        if self._link is not None:
            self._link, self._is_lost, patience_s = None, True, RECONNECT_S
            notify(
                "bastion_lost", f"The connection to the bastion {self._settings.endpoint} was lost; fleet reconnects."
            )
        link = self._connected(notify, make, patience_s)
        if self._is_lost:
            self._is_lost = False
            notify("bastion_back", f"The bastion {self._settings.endpoint} is connected again.")
        return link

    def _connected(self, notify: Notify, make: MakeLink, patience_s: float) -> BastionLink:
        """A new connection, tried again for `patience_s` seconds while the bastion can't be reached."""
        ends_at = time.monotonic() + patience_s
        pause_s = 0.5
        while True:
            self._pending = link = make(self._settings)
            self._refuse_if_closed()
            try:
                link.open()
                return link
            except LinkError as failure:
                link.close()
                if not failure.may_pass or time.monotonic() + pause_s >= ends_at:
                    raise
                notify("bastion_away", f"The bastion can't be reached yet; fleet tries again. {failure.message}")
            self._closed.wait(pause_s * Random().uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, 8.0)

    def _refuse_if_closed(self) -> None:
        if self._closed.is_set():
            raise LinkError("cut", "The run was cut off before this visit sent a request.", "Run fleet status.")

    def _refused(self, to: Settings, error: paramiko.ChannelException) -> LinkError:
        detail = safe(error.text or "")
        if error.code == CONNECT_FAILED:
            # OpenSSH's text is only "Connect failed".
            return LinkError(
                "unreachable_from_bastion",
                f"The bastion {self._settings.endpoint} can't connect to {to.endpoint}: {detail}.",
                f"On the bastion, try: nc -vz {to.hostname} {to.port}. See that the host is up and sshd runs there.",
            )
        return LinkError(
            "jump_refused",
            f"The bastion {self._settings.endpoint} forwards no connection to {to.endpoint}: {detail or error}.",
            "Look at AllowTcpForwarding, PermitOpen and DisableForwarding in its sshd_config, and at its authorized_keys.",
        )


def _timed_out(bastion: Settings, to: Settings, connect_s: float) -> LinkError:
    return LinkError(
        "timed_out",
        f"{to.endpoint} did not answer the bastion {bastion.endpoint} within {connect_s:g} s.",
        f"See that the host is up and no firewall drops the connection; on the bastion: nc -vz {to.hostname} {to.port}",
        may_pass=True,
    )


def _disconnected(bastion: Settings, to: Settings, detail: str) -> LinkError:
    return LinkError(
        "jump_refused",
        f"The bastion {bastion.endpoint} accepted the login and closed the connection {MAX_LOSSES} times when fleet opened "
        f"a channel to {to.endpoint}{': ' + detail if detail else ''}.",
        f"Look at the bastion's sshd log, and try: ssh -J {bastion.hostname}:{bastion.port} {to.hostname}",
    )


def _not_reached(bastion: Settings, failure: LinkError) -> LinkError:
    """The same error with the bastion named: the hosts behind it have no part in it."""
    kind: Any = type(failure)
    found: LinkError = kind(
        failure.reason, f"The bastion {bastion.endpoint} can't be used: {failure.message}", failure.remedy
    )
    return found
