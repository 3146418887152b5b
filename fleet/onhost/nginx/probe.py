"""HTTP probes that count only when a worker of the right master answers.

While two generations accept on the same sockets, the kernel decides which of them gets a connection. So fleet connects,
asks the kernel which process owns the other end, and sends only then; it dials again when the other generation took the
connection. A connection closed without a byte costs nginx nothing and leaves no line in its logs.
"""

import socket
import ssl
import threading
from http.client import HTTPException, HTTPResponse
from typing import Collection, List, NamedTuple, Optional, Sequence, Tuple

from fleet.onhost.nginx.probe_target import Target, read_target
from fleet.onhost.protocol import Probe
from fleet.onhost.system.machine import Machine

FIRST_BURST = 2
MOST_BURST = 32
REACH_S = 10.0
"""Seconds to keep dialling while workers of the other generation take every connection. On a host whose CPUs are all busy
that can happen although the wanted workers are healthy."""
FIRST_PAUSE_S, MOST_PAUSE_S = 0.002, 0.05
"""Seconds between two bursts, growing: most probes reach their master by the first of them."""
ACCEPT_WAIT_S = 2.0
"""Seconds until a connection that no worker accepted is given up. With `listen … deferred` the kernel hands over a silent
connection only after a second."""
FIRST_LOOK_S, MOST_LOOK_S = 0.002, 0.05
"""Seconds between two lookups of the process that took a connection, growing: the kernel's table has a line for each
connection of the host."""
MOST_BODY_BYTES = 1 << 20
BAD_REQUEST = 400


class Answer(NamedTuple):
    """The result of one probe. `by` is the pid of the worker that answered; `problem` is `None` when the answer is right.
    `advice` says what in the probe may be wrong, if the server is right.
    """

    probe: Probe
    by: Optional[int]
    problem: Optional[str]
    advice: str = ""


class NotReached(Exception):
    """None of the wanted workers accepted a connection."""


class Wrong(Exception):
    """The answer is not the one that the probe asks for."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(problem)
        self.advice = advice


def ask(machine: Machine, probe: Probe, workers: Collection[int]) -> Answer:
    """The answer of one of these workers to the probe. Errors of the server are in the answer, never raised."""
    try:
        target = read_target(probe.url)
        connection, by = _dial_one_of(machine, probe, target, workers)
    except (OSError, ValueError, NotReached) as error:
        return Answer(probe, None, "%s: %s" % (probe.url, _in_words(error)), ADDRESS)
    over = threading.Event()
    timer = threading.Timer(probe.timeout_s, lambda: _hang_up(connection, over))
    problem, advice = None, ""
    try:
        if probe.proxy_protocol:
            connection.sendall(_proxy_line(connection))
        if target.is_tls:
            connection = _tls(connection, probe, target)
        timer.start()
        _exchange(connection, probe, target)
    except Wrong as error:
        problem, advice = str(error), error.advice
    except (OSError, HTTPException, ValueError) as error:
        problem, advice = "no answer (%s)" % _in_words(error), _unanswered(probe, error)
    finally:
        timer.cancel()
        connection.close()
    if over.is_set():
        problem, advice = "no whole answer within %.0f s" % probe.timeout_s, "give it a longer `timeout_s`"
    return Answer(probe, by, problem and "%s: %s, from worker %d" % (probe.url, problem, by), advice)


ADDRESS = "`ss -lnp` shows what listens at its address"
ADD_PROXY = "if its `listen` has `proxy_protocol`, add `proxy_protocol: true` to the probe"
DROP_PROXY = "if its `listen` has no `proxy_protocol`, remove `proxy_protocol` from the probe"
NO_TLS = "if its `listen` has no `ssl`, write `http://`"
TLS = "if its `listen` has `ssl`, write `https://`"


def _unanswered(probe: Probe, error: Exception) -> str:
    """What in the probe may be wrong where nginx closed the connection without an answer (`broken header` in its log)."""
    if isinstance(error, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(error):
        return NO_TLS if not probe.proxy_protocol else "%s; %s" % (DROP_PROXY, NO_TLS)
    return DROP_PROXY if probe.proxy_protocol else ADD_PROXY


def _unexpected(probe: Probe, target: Target, status: int) -> str:
    """What in the probe may be wrong where nginx answered with this status."""
    if status == BAD_REQUEST and probe.proxy_protocol:
        return DROP_PROXY
    if status == BAD_REQUEST and not target.is_tls:
        return TLS
    return "if that answer is right, set `status: %d`" % status


def _in_words(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _proxy_line(connection: socket.socket) -> bytes:
    """The line of the PROXY protocol, version 1, that a proxy sends first; it names this connection's own ends."""
    if connection.family == socket.AF_UNIX:
        return b"PROXY UNKNOWN\r\n"
    ends = [end[:2] for end in (connection.getsockname(), connection.getpeername())]
    hosts = [str(host).partition("%")[0] for host, _ in ends]
    family = "TCP6" if connection.family == socket.AF_INET6 else "TCP4"
    return ("PROXY %s %s %d %d\r\n" % (family, " ".join(hosts), ends[0][1], ends[1][1])).encode("ascii")


def _hang_up(connection: socket.socket, over: threading.Event) -> None:
    """Close the connection at the deadline, so that an endless answer ends, whatever the reader waits for."""
    over.set()
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except (OSError, ValueError):
        return


def _dial_one_of(machine: Machine, probe: Probe, target: Target, workers: Collection[int]) -> Tuple[socket.socket, int]:
    """A connection that one of these workers accepted, and that worker. Raises `NotReached`, OSError.

    An nginx worker takes up to sixteen connections in a row before another gets its turn (its own balancing for
    EPOLLEXCLUSIVE), so on a quiet host single dials would reach only the old workers for a long time. A burst does not: a
    connection that arrives while one worker is busy wakes another. Connections that no worker accepts are limited by the
    probe's own timeout.
    """
    if not workers:
        raise NotReached("this master has no accepting worker")
    began_s = machine.monotonic_s()
    dials, burst, pause_s = 0, FIRST_BURST, FIRST_PAUSE_S
    while True:
        opened: List[socket.socket] = []
        taken = None
        try:
            while len(opened) < burst:
                opened.append(_dial(machine, probe, target, workers))
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
        machine.pause(pause_s)
        pause_s = min(2 * pause_s, MOST_PAUSE_S)


def _dial(machine: Machine, probe: Probe, target: Target, workers: Collection[int]) -> socket.socket:
    if target.unix is None:
        return machine.dial(target.host, target.port, probe.timeout_s)
    return machine.dial_unix(target.unix, probe.timeout_s, min(workers))


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


def _exchange(connection: socket.socket, probe: Probe, target: Target) -> None:
    """Send the request and read the answer. Raises `Wrong`, and what the connection raises."""
    host = probe.host_header or target.authority
    question = "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: fleet-probe\r\nConnection: close\r\n\r\n" % (
        target.path,
        host,
    )
    connection.sendall(question.encode("latin-1"))
    response = HTTPResponse(connection)
    response.begin()
    body = response.read(MOST_BODY_BYTES)
    if response.status != probe.status:
        problem = "answered %d instead of %d" % (response.status, probe.status)
        raise Wrong(problem, _unexpected(probe, target, response.status))
    if probe.contains is not None and probe.contains.encode() not in body:
        raise Wrong("the answer does not contain %r" % probe.contains, "if that answer is right, correct `contains`")


def _tls(connection: socket.socket, probe: Probe, target: Target) -> ssl.SSLSocket:
    """The certificate is not checked: the host asks itself over its own address."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection, server_hostname=probe.host_header or target.host)
