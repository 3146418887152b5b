"""HTTP questions that count only when a worker of the right master answers them.

While two generations accept on the same sockets, the kernel decides who gets a connection. So: connect, look up in
/proc who owns the other end, and only then send; dial again when it was the other generation. A connection that is
closed without a byte costs nginx nothing and leaves no line in its logs.
"""

import socket
import ssl
import threading
from http.client import HTTPException, HTTPResponse
from typing import Collection, List, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from fleet.onhost.protocol import Probe
from fleet.onhost.system.machine import Machine

FIRST_BURST = 8
MOST_BURST = 32
REACH_S = 10.0
"""How long we dial while workers of the other generation take every connection: on a host whose CPUs are all busy they
may, though the wanted ones are well.
"""
BETWEEN_BURSTS_S = 0.05
ACCEPT_WAIT_S = 1.0
FIRST_LOOK_S, MOST_LOOK_S = 0.002, 0.05
"""How long we wait before we look again who has taken a connection: ever longer, because the kernel's table has a line for
each connection of the host.
"""
MOST_BODY_BYTES = 1 << 20


class Answer(NamedTuple):
    """What came of one probe. `by` is the worker that answered; `trouble` is `None` when the answer is right."""

    probe: Probe
    by: Optional[int]
    trouble: Optional[str]


class NotReached(Exception):
    """None of the wanted workers took one of our connections."""


def ask(machine: Machine, probe: Probe, workers: Collection[int]) -> Answer:
    """The answer of one of these workers to the probe. Never raises for what the server does."""
    try:
        connection, by = _dial_one_of(machine, probe, workers)
    except (OSError, NotReached) as error:
        return Answer(probe, None, "%s: %s" % (probe.url, error))
    over = threading.Event()
    timer = threading.Timer(probe.timeout_s, lambda: _hang_up(connection, over))
    try:
        if urlsplit(probe.url).scheme == "https":
            connection = _tls(connection, probe)
        timer.start()
        trouble = _exchange(connection, probe)
    except (OSError, HTTPException, ValueError) as error:
        trouble = "no answer (%s)" % (str(error) or type(error).__name__)
    finally:
        timer.cancel()
        connection.close()
    if over.is_set():
        trouble = "no whole answer within %.0f s" % probe.timeout_s
    return Answer(probe, by, trouble and "%s: %s, from worker %d" % (probe.url, trouble, by))


def _hang_up(connection: socket.socket, over: threading.Event) -> None:
    """An answer that drips on for ever ends here, whatever it waits for."""
    over.set()
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except (OSError, ValueError):
        return


def _dial_one_of(machine: Machine, probe: Probe, workers: Collection[int]) -> Tuple[socket.socket, int]:
    """A connection that one of these workers has taken, and which. Raises `NotReached`, OSError.

    nginx lets a worker take sixteen connections in a row before it lets the next one come first (its own balance for
    EPOLLEXCLUSIVE), so on a quiet host single dials would all go to the old workers for a long time. A burst does not:
    a connection that arrives while one worker is still busy with the last wakes another one. Connections that nobody
    takes are another matter: then the probe's own time is enough.
    """
    parts = urlsplit(probe.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    began_s = machine.monotonic_s()
    dials, burst = 0, FIRST_BURST
    while True:
        opened: List[socket.socket] = []
        taken = None
        try:
            while len(opened) < burst:
                opened.append(machine.dial(parts.hostname or "127.0.0.1", port, probe.timeout_s))
            taken, others_take = _taken_by(machine, opened, workers)
        finally:
            for connection in opened:
                if taken is None or connection is not taken[0]:
                    connection.close()
        if taken is not None:
            return taken
        dials += burst
        patience_s = max(REACH_S, probe.timeout_s) if others_take else probe.timeout_s
        if machine.monotonic_s() - began_s >= patience_s:
            raise NotReached("none of %d connections was taken by a worker of this master" % dials)
        burst = min(2 * burst, MOST_BURST)
        machine.pause(BETWEEN_BURSTS_S)


def _taken_by(
    machine: Machine, opened: Sequence[socket.socket], workers: Collection[int]
) -> Tuple[Optional[Tuple[socket.socket, int]], bool]:
    """One of the connections that one of the workers has accepted, and which worker; else `None`, and whether others
    took them all.

    The inode is 0 until a process has accepted; a socket with `deferred` stays so until we send.
    """
    until = machine.monotonic_s() + ACCEPT_WAIT_S
    pause_s = FIRST_LOOK_S
    while True:
        inodes = machine.peer_inodes(opened)
        for worker in sorted(workers):
            held = machine.socket_inodes(worker)
            for connection, inode in zip(opened, inodes):
                if inode and inode in held:
                    return (connection, worker), False
        if all(inodes) or machine.monotonic_s() >= until:
            return None, all(inodes)
        machine.pause(pause_s)
        pause_s = min(2 * pause_s, MOST_LOOK_S)


def _exchange(connection: socket.socket, probe: Probe) -> Optional[str]:
    """What is wrong with the answer, or `None`."""
    parts = urlsplit(probe.url)
    path = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    host = probe.host_header or parts.netloc
    question = "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: fleet-probe\r\nConnection: close\r\n\r\n" % (path, host)
    connection.sendall(question.encode("latin-1"))
    response = HTTPResponse(connection)
    response.begin()
    body = response.read(MOST_BODY_BYTES)
    if response.status != probe.status:
        return "answered %d instead of %d" % (response.status, probe.status)
    if probe.contains is not None and probe.contains.encode() not in body:
        return "the answer does not contain %r" % probe.contains
    return None


def _tls(connection: socket.socket, probe: Probe) -> ssl.SSLSocket:
    """The host asks itself over its own address, so there is nobody to be deceived by: the certificate is not judged."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection, server_hostname=probe.host_header or urlsplit(probe.url).hostname)
