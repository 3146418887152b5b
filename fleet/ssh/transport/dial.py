"""A TCP connection to a host: its addresses are tried in turn, each with its share of the deadline.

paramiko tries the second address only after a refusal, never after a timeout, and has no deadline of its own. The socket
is tuned for small messages (Nagle and delayed acknowledgements cost 80 ms a login) and detects a lost peer.
"""

import errno
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from fleet.ssh.link_errors import LinkError
from fleet.ssh.openssh_config import Settings

# How long sent bytes may stay unacknowledged before the kernel closes the connection. A visit sends a beat every second,
# so this detects a cut link. It is shorter than a visit's silence deadline, and long enough for a network that reorders.
UNACKNOWLEDGED_MS = 20_000
KEEPALIVE_IDLE_S = 15
LOOKUP_S = 30.0
"""For a name lookup, which OpenSSH's ConnectTimeout does not cover. A dead name server costs 5 s, twice, and again for each
search domain.
"""
NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL)


class QuickSocket(socket.socket):
    """A socket that acknowledges at once (TCP_QUICKACK, which Linux resets, so it is set again after each read).

    When another thread has closed it, a read gives the end of the stream.
    """

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        try:
            data = super().recv(size, flags)
            if data and sys.platform == "linux":
                self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except OSError:
            if self.fileno() < 0:
                return b""
            raise
        return data


def dial(settings: Settings, timeout_s: float, lookup: Callable[..., Any] = socket.getaddrinfo) -> QuickSocket:
    """A connected socket. Each address gets its share of what is left of `timeout_s`. Raises `LinkError`."""
    found = _addresses(settings, lookup)
    ends_at = time.monotonic() + timeout_s
    failures: list[tuple[str, OSError]] = []
    for number, (family, address) in enumerate(found):
        share_s = (ends_at - time.monotonic()) / (len(found) - number)
        if share_s <= 0:
            break
        try:
            return _connect(family, address, share_s)
        except OSError as error:
            failures.append((str(address[0]), error))
    raise _failed(settings, failures, timeout_s)


def _addresses(settings: Settings, lookup: Callable[..., Any]) -> list[tuple[socket.AddressFamily, Any]]:
    """The addresses of the name. The resolver has no deadline, so a thread of its own waits for it, and is abandoned
    after `LOOKUP_S`.
    """
    answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(lookup(settings.hostname, settings.port, settings.family, socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.put(error)

    threading.Thread(target=ask, name="fleet-lookup", daemon=True).start()
    try:
        found = answer.get(timeout=LOOKUP_S)
    except queue.Empty:
        raise LinkError(
            "timed_out",
            f"The name {settings.hostname!r} could not be looked up within {LOOKUP_S:g} s.",
            "See that this machine's name servers (/etc/resolv.conf) answer, or set ansible_host to the IP address.",
            may_pass=True,
        ) from None
    if isinstance(found, Exception):
        raise LinkError(
            "name_not_found",
            f"The name {settings.hostname!r} can't be looked up: {found}.",
            f"Try: getent hosts {settings.hostname}. Correct ansible_host in the inventory, or this machine's DNS.",
        ) from found
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _connect(family: socket.AddressFamily, address: Any, timeout_s: float) -> QuickSocket:
    found = QuickSocket(family, socket.SOCK_STREAM)
    try:
        found.settimeout(timeout_s)
        _tune(found)
        found.connect(address)
    except OSError:
        found.close()
        raise
    return found


def _tune(found: socket.socket) -> None:
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    elif sys.platform == "darwin":
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPALIVE, KEEPALIVE_IDLE_S)


def _failed(settings: Settings, failures: list[tuple[str, OSError]], timeout_s: float) -> LinkError:
    """One error for all addresses: a refusal shows that the machine is up, and a missing route says more than a timeout."""
    there = settings.endpoint
    tried = ", ".join(f"{address}: {error.strerror or error}" for address, error in failures)
    if any(isinstance(error, ConnectionRefusedError) for _, error in failures):
        return LinkError(
            "refused",
            f"{there} refuses the connection ({tried}).",
            "See that sshd runs there (systemctl status sshd), and that ansible_port is right.",
            may_pass=True,
        )
    if any(error.errno in NO_ROUTE for _, error in failures):
        return LinkError(
            "unreachable_no_route",
            f"There is no route to {there} ({tried}).",
            f"See that the host is up, and that this machine's network or VPN reaches it: ip route get {settings.hostname}",
            may_pass=True,
        )
    if failures and not any(isinstance(error, TimeoutError) for _, error in failures):
        return LinkError(
            "connect_failed",
            f"The connection to {there} failed ({tried}).",
            f"Try: nc -vz {settings.hostname} {settings.port}",
            may_pass=True,
        )
    addresses = [address for address, _ in failures]
    resolved = "" if addresses == [settings.hostname] else f" (tried {', '.join(addresses)})"
    return LinkError(
        "timed_out",
        f"{there} did not answer within {timeout_s:g} s{resolved}.",
        f"See that the host is up and no firewall drops the connection: nc -vz {settings.hostname} {settings.port}",
        may_pass=True,
    )
