"""The sockets that the old master holds, compared with those that the new binary would open.

The new master closes an inherited socket that its configuration does not name; the socket stays open in the old master,
so clients connect and hang. nginx even deletes a UNIX socket that is not named (docs/nginx-facts.md, section 8). The
held sockets come from /proc. The sockets to open are worked out as nginx does: an address covered by a wildcard of the
same port gets no socket of its own, unless an option of its `listen` asks for one (ngx_http_init_listening).
"""

import ipaddress
import re
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Set, Tuple

from fleet.onhost.nginx.configuration import Configuration, Listen
from fleet.onhost.nginx.worker_count import ONLINE, numbers
from fleet.onhost.observation import Master
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.system.machine import Machine

OWN_SOCKET = re.compile(
    r"^(bind|reuseport|deferred|(backlog|rcvbuf|sndbuf|setfib|fastopen|accept_filter|ipv6only|so_keepalive)=.*)$"
)
WILDCARDS = ("0.0.0.0", "::")
MOST_PORTS = 65536


class Address(NamedTuple):
    """A listening address: `kind` is `tcp`, `tcp6`, `udp`, `udp6` or `unix`, whose `host` is a path."""

    kind: str
    host: str
    port: int

    def __str__(self) -> str:
        if self.kind == "unix":
            return "unix:" + self.host
        host = "[%s]" % self.host if ":" in self.host else self.host
        return "%s:%d%s" % (host, self.port, " udp" if self.kind.startswith("udp") else "")


class Wanted(NamedTuple):
    """What one `listen` asks for. A host name may stand for any of `addresses`; else there is one for each port."""

    addresses: FrozenSet[Address]
    named: bool
    bind: bool
    reuseport: bool
    quic: bool


def held(machine: Machine, master: Master) -> Dict[Address, int]:
    """The addresses that the master listens on, each with its number of sockets."""
    listeners = machine.listeners(master.pid)
    found: Dict[Address, int] = {}
    for inode in master.listeners:
        if inode not in listeners:
            continue
        one = listeners[inode]
        host, _, port = one.address.rpartition(":")
        address = (
            Address("unix", one.address, 0) if one.kind == "unix" else Address(one.kind, host.strip("[]"), int(port))
        )
        found[address] = found.get(address, 0) + 1
    return found


def wanted(machine: Machine, config: Configuration) -> Tuple[Wanted, ...]:
    """What each `listen` of the configuration asks for."""
    return tuple(one for one in (_wanted(machine, listen) for listen in config.listens) if one is not None)


def compare(subject: Subject, config: Configuration) -> List[Finding]:
    """The listeners that the new binary would lose, could not open, or would add."""
    has, asks = held(subject.machine, subject.old), wanted(subject.machine, config)
    opened = _opened(asks)
    found = []
    missing = sorted(str(address) for address in has if address not in opened)
    if missing:
        found.append(finding("listener_missing", listeners=", ".join(missing)))
    if has:
        found += _added(subject, set(has), asks, opened)
    found += _fewer(subject.machine, has, asks, config)
    quic = sorted({str(address) for one in asks if one.quic for address in one.addresses})
    if quic and not config.quic_bpf:
        found.append(finding("quic", listener=", ".join(quic)))
    return found


def workers_wanted(machine: Machine, config: Configuration) -> Optional[int]:
    """The number of workers that the configuration asks for, or `None` when it is unknown."""
    if config.worker_processes.isdigit():
        return int(config.worker_processes)
    found = numbers(machine.read(ONLINE) or "")
    return len(found) if found else None


def _opened(asks: Tuple[Wanted, ...]) -> Set[Address]:
    """The sockets that nginx opens for these `listen` directives."""
    every = {address for one in asks for address in one.addresses}
    bound = {address for one in asks if one.bind for address in one.addresses}
    return {address for address in every if address in bound or not _covered(address, every)}


def _covered(address: Address, every: Set[Address]) -> bool:
    """Whether a wildcard of the same port and family covers this address."""
    if address.kind == "unix" or address.host in WILDCARDS:
        return False
    return any(Address(address.kind, wild, address.port) in every for wild in WILDCARDS)


def _added(subject: Subject, has: Set[Address], asks: Tuple[Wanted, ...], opened: Set[Address]) -> List[Finding]:
    new: Set[Address] = set()
    for one in asks:
        if not (one.named and one.addresses & has):
            new |= {address for address in one.addresses & opened if address not in has}
    found = []
    for address in sorted(new):
        why = _unavailable(subject, address)
        if why:
            found.append(finding("listener_busy", listener=address, why=why))
        else:
            found.append(finding("listener_added", listener=address))
    return found


def _unavailable(subject: Subject, address: Address) -> Optional[str]:
    machine = subject.machine
    if address.kind == "unix":
        return "that path exists already, and nginx does not reuse it" if machine.exists(address.host) else None
    theirs, ours = (machine.real_path("/proc/%s/ns/net" % pid) for pid in (subject.old.pid, "self"))
    if theirs.rpartition("/")[2] != ours.rpartition("/")[2]:
        return None
    return machine.bind_error(address.kind, address.host, address.port)


def _fewer(machine: Machine, has: Dict[Address, int], asks: Tuple[Wanted, ...], config: Configuration) -> List[Finding]:
    """The addresses that would have fewer sockets than now: with reuseport each worker has its own."""
    workers = workers_wanted(machine, config)
    shared = {address for one in asks if one.reuseport for address in one.addresses}
    found = []
    for address, count in sorted(has.items()):
        opened = workers if address in shared else 1
        if count > 1 and opened is not None and opened < count:
            found.append(finding("fewer_workers", listener=address, held=count, opened=opened))
    return found


def _wanted(machine: Machine, listen: Listen) -> Optional[Wanted]:
    place = listen.words[0] if listen.words else "*:80"
    options = listen.words[1:]
    quic = "quic" in options or (listen.context == "http" and "http3" in options)
    bind = any(OWN_SOCKET.match(option) for option in options)
    if place.startswith("unix:"):
        return Wanted(frozenset([Address("unix", place[5:], 0)]), False, True, False, False)
    host, first, last = _split(place)
    if first is None or last is None or last - first > MOST_PORTS:
        return None
    hosts, named = _hosts(machine, host)
    kind = "udp" if quic or "udp" in options else "tcp"
    addresses = frozenset(
        Address(kind + ("6" if ":" in one else ""), one, port) for one in hosts for port in range(first, last + 1)
    )
    return Wanted(addresses, named, bind, "reuseport" in options, quic)


def _split(place: str) -> Tuple[str, Optional[int], Optional[int]]:
    """Host, first port and last port of the address after `listen`."""
    if re.match(r"^\d+(-\d+)?$", place):
        host, ports = "*", place
    elif place.startswith("["):
        host, _, ports = place[1:].partition("]")
        ports = ports.lstrip(":")
    else:
        host, _, ports = place.partition(":")
    if ports and not re.match(r"^\d+(-\d+)?$", ports):
        return host, None, None
    ports = ports or "80"
    first, _, last = ports.partition("-")
    return host, int(first), int(last or first)


def _hosts(machine: Machine, host: str) -> Tuple[Tuple[str, ...], bool]:
    """The addresses for the host part of a `listen`, and whether it is a name."""
    if host == "*":
        return ("0.0.0.0",), False
    try:
        return (str(ipaddress.ip_address(host)),), False
    except ValueError:
        return machine.addresses(host), True
