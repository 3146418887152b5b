"""The questions that both generations are asked in the rehearsal: one to each listener, and the operator's probes."""

import re
import socket
import ssl
import threading
from typing import Collection, Dict, Sequence, Tuple

from fleet.onhost.nginx.probe import ask
from fleet.onhost.protocol import Probe
from fleet.onhost.rehearsal.evidence import Answered, Opened
from fleet.onhost.rehearsal.loopback import give_to_loopback
from fleet.onhost.system.machine import Machine

QUESTION = b"GET / HTTP/1.0\r\nHost: localhost\r\nUser-Agent: fleet-rehearsal\r\n\r\n"
STATUS = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})")
TO_TLS = b"400"
"""nginx answers plain HTTP on a TLS listener with this status (497 inside)."""
ANSWER_S = 4.0
MOST_QUESTIONS = 64
MOST_BYTES = 4096
FIRST_ALIAS = 100  # The relay gives the loopback the addresses of the name servers under lower numbers.
LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def ask_listeners(listeners: Sequence[Opened]) -> Tuple[Answered, ...]:
    """What these listeners answer, asked all at once. UDP listeners are not asked."""
    asked = [one for one in listeners if not one.kind.startswith("udp")][:MOST_QUESTIONS]
    for number, one in enumerate(asked):
        if one.kind != "unix" and _host(one) not in LOCAL.values():
            give_to_loopback(_host(one), FIRST_ALIAS + number)
    found: Dict[Opened, Answered] = {}
    threads = [threading.Thread(target=lambda one=one: found.update({one: _listener(one)})) for one in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tuple(found[one] for one in asked)


def ask_probes(machine: Machine, probes: Sequence[Probe], workers: Collection[int]) -> Tuple[Answered, ...]:
    """What these workers answer to the operator's probes."""
    answers = [ask(machine, probe, workers) for probe in probes]
    return tuple(Answered(one.probe.url, one.problem or "as expected", one.problem is None) for one in answers)


def _listener(one: Opened) -> Answered:
    """What this listener answers to a plain question; if that is the answer of a TLS listener, within TLS."""
    name = "%s %s" % (one.kind, one.address)
    plain = _exchange(one, is_tls=False)
    found = STATUS.match(plain)
    if found and found.group(1) == TO_TLS:
        inside = STATUS.match(_exchange(one, is_tls=True))
        if inside:
            return Answered(name, "%s over TLS" % inside.group(1).decode(), True)
    if found:
        return Answered(name, found.group(1).decode(), True)
    return Answered(name, "an answer that is not HTTP", True) if plain else Answered(name, "no answer", False)


def _exchange(one: Opened, is_tls: bool) -> bytes:
    """The first line of the answer; nothing if none came. Closed and reset are the same: which one it is is chance."""
    family = {"tcp": socket.AF_INET, "tcp6": socket.AF_INET6}.get(one.kind, socket.AF_UNIX)
    data = b""
    try:
        with socket.socket(family) as line:
            line.settimeout(ANSWER_S)
            line.connect(one.address if one.kind == "unix" else (_host(one), int(one.address.rpartition(":")[2])))
            with _in_tls(line) if is_tls else line as connection:
                connection.sendall(QUESTION)
                while b"\n" not in data and len(data) < MOST_BYTES:
                    more = connection.recv(MOST_BYTES)
                    if not more:
                        break
                    data += more
    except (OSError, ValueError):
        pass
    return data.partition(b"\n")[0]


def _in_tls(line: socket.socket) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(line, server_hostname="localhost")


def _host(one: Opened) -> str:
    host = one.address.rpartition(":")[0].strip("[]")
    return LOCAL.get(host, host)
