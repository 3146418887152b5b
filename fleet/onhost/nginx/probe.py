"""HTTP probes that count only when a worker of the right master answers.

While two generations accept on the same sockets, the kernel decides which of them gets a connection. So fleet connects,
looks up in /proc which process owns the other end, and sends only then; it dials again when the other generation took
the connection. A connection closed without a byte costs nginx nothing and leaves no line in its logs.
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
"""Seconds to keep dialling while workers of the other generation take every connection. On a host whose CPUs are all busy
that can happen although the wanted workers are healthy."""
BETWEEN_BURSTS_S = 0.05
ACCEPT_WAIT_S = 1.0
FIRST_LOOK_S, MOST_LOOK_S = 0.002, 0.05
"""Seconds between two lookups of the process that took a connection, growing: the kernel's table has a line for each
connection of the host."""
MOST_BODY_BYTES = 1 << 20


class Answer(NamedTuple):
    """The result of one probe. `by` is the pid of the worker that answered; `problem` is `None` when the answer is right."""

    probe: Probe
    by: Optional[int]
    problem: Optional[str]


class NotReached(Exception):
    """None of the wanted workers accepted a connection."""


def ask(machine: Machine, probe: Probe, workers: Collection[int]) -> Answer:
    """The answer of one of these workers to the probe. Errors of the server are in the answer, never raised."""
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
        problem = _exchange(connection, probe)
    except (OSError, HTTPException, ValueError) as error:
        problem = "no answer (%s)" % (str(error) or type(error).__name__)
    finally:
        timer.cancel()
        connection.close()
    if over.is_set():
        problem = "no whole answer within %.0f s" % probe.timeout_s
    return Answer(probe, by, problem and "%s: %s, from worker %d" % (probe.url, problem, by))


def _hang_up(connection: socket.socket, over: threading.Event) -> None:
    """Close the connection at the deadline, so that an endless answer ends, whatever the reader waits for."""
    over.set()
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except (OSError, ValueError):
        return


def _dial_one_of(machine: Machine, probe: Probe, workers: Collection[int]) -> Tuple[socket.socket, int]:
    """A connection that one of these workers accepted, and that worker. Raises `NotReached`, OSError.

    An nginx worker takes up to sixteen connections in a row before another gets its turn (its own balancing for
    EPOLLEXCLUSIVE), so on a quiet host single dials would reach only the old workers for a long time. A burst does not: a
    connection that arrives while one worker is busy wakes another. Connections that no worker accepts are limited by the
    probe's own timeout.
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
    """One of the connections that these workers accepted, and the worker; else `None`, and whether others took all of them.

    The inode is 0 until a process has accepted; with `deferred` it stays 0 until the client sends.
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
    """The certificate is not checked: the host asks itself over its own address."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection, server_hostname=probe.host_header or urlsplit(probe.url).hostname)
