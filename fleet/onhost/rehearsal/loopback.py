"""The private network of a rehearsal: a loopback that takes every address, and a relay for questions about names.

Nothing can be reached but the host's own name servers. `net.ipv4.ip_nonlocal_bind` lets nginx bind addresses that are not
on the host (a floating address on the other node); before such an address is asked, it is given to the loopback.
"""

import fcntl
import os
import re
import select
import socket
import struct
from typing import Dict, List, Optional, Tuple

from fleet.onhost.rehearsal import kernel

COPIED = (
    "net/ipv4/ip_unprivileged_port_start",
    "net/core/somaxconn",
    "net/ipv6/bindv6only",
    "net/ipv6/conf/all/disable_ipv6",
    "net/ipv6/conf/default/disable_ipv6",
    "net/ipv4/tcp_fastopen",
)
OWN = (
    ("net/ipv4/ip_nonlocal_bind", "1"),
    ("net/ipv6/ip_nonlocal_bind", "1"),
    ("net/ipv6/conf/lo/accept_dad", "0"),
    ("net/ipv6/conf/lo/dad_transmits", "0"),
)
SET_FLAGS, SET_ADDRESS, SET_NETMASK = 0x8914, 0x8916, 0x891C  # ioctl requests, netdevice(7)
UP_LOOPBACK_RUNNING = 0x1 | 0x8 | 0x40
DNS_PORT = 53
MOST_MESSAGE_BYTES = 65535
ANSWER_S = 5.0


def read_settings(proc: int) -> Dict[str, str]:
    """The settings of the current network namespace that decide what nginx may bind; `proc` is a handle of /proc."""
    found = {}
    for name in COPIED:
        try:
            descriptor = os.open("sys/" + name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
        except OSError:
            continue
        with open(descriptor) as source:
            found[name] = source.read()
    return found


def make_private() -> None:
    """A network namespace of our own, with a loopback that is up. Raises OSError."""
    kernel.unshare(kernel.NEW_NETWORK)
    with socket.socket() as control:
        fcntl.ioctl(control, SET_FLAGS, struct.pack("16sh14x", b"lo", UP_LOOPBACK_RUNNING))


def apply_settings(settings: Dict[str, str]) -> None:
    """Set them in this namespace; those that this kernel lacks are left out."""
    for name, value in list(settings.items()) + list(OWN):
        try:
            with open("/proc/sys/" + name, "w") as sink:
                sink.write(value)
        except OSError:
            continue


def give_to_loopback(host: str, number: int) -> None:
    """Make the address one of the loopback's, as its alias `number`; no error if that fails."""
    try:
        if ":" in host:
            with socket.socket(socket.AF_INET6) as control:
                packed = socket.inet_pton(socket.AF_INET6, host)
                fcntl.ioctl(control, SET_ADDRESS, struct.pack("16sIi", packed, 128, 1))
        elif not host.startswith("127."):
            name = b"lo:%d" % number
            with socket.socket() as control:
                for request, address in ((SET_ADDRESS, socket.inet_aton(host)), (SET_NETMASK, b"\xff" * 4)):
                    fcntl.ioctl(control, request, struct.pack("16sHH4s8x", name, socket.AF_INET, 0, address))
    except OSError:
        return


def name_servers() -> List[str]:
    """The addresses in /etc/resolv.conf; the C library's default if there are none."""
    try:
        with open("/etc/resolv.conf") as source:
            found = re.findall(r"^\s*nameserver\s+(\S+)", source.read(), re.MULTILINE)
    except (OSError, ValueError):
        found = []
    return found or ["127.0.0.1"]


class Relay:
    """Takes questions at the name servers' addresses in this network, and asks those servers in the outside one."""

    def __init__(self, outside: int) -> None:
        self._outside = outside
        self._inside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.poll()
        self._takers: Dict[int, Tuple[socket.socket, str]] = {}
        self._waiting: Dict[int, Tuple[socket.socket, socket.socket, Optional[Tuple[str, int]]]] = {}
        for number, host in enumerate(name_servers(), start=1):
            give_to_loopback(host, number)
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                self._listen(host, kind)

    def _listen(self, host: str, kind: int) -> None:
        try:
            taker = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
            taker.bind((host, DNS_PORT))
            if kind == socket.SOCK_STREAM:
                taker.listen(16)
        except OSError:
            return
        self._takers[taker.fileno()] = (taker, host)
        self._poll.register(taker, select.POLLIN)

    def serve(self) -> None:
        """Relay until this process is ended."""
        while True:
            for number, _ in self._poll.poll():
                try:
                    if number in self._takers:
                        self._pass_on(*self._takers[number])
                    else:
                        self._pass_back(number)
                except OSError:
                    continue

    def _pass_on(self, taker: socket.socket, host: str) -> None:
        sender: Optional[Tuple[str, int]] = None
        if taker.type == socket.SOCK_DGRAM:
            question, sender = taker.recvfrom(MOST_MESSAGE_BYTES)
            client = taker
        else:
            client = taker.accept()[0]
            client.settimeout(ANSWER_S)
            question = client.recv(MOST_MESSAGE_BYTES)
        kernel.set_namespace(self._outside, kernel.NEW_NETWORK)
        away = socket.socket(taker.family, taker.type)
        kernel.set_namespace(self._inside, kernel.NEW_NETWORK)
        away.settimeout(ANSWER_S)
        away.connect((host, DNS_PORT))
        away.sendall(question)
        self._waiting[away.fileno()] = (away, client, sender)
        self._poll.register(away, select.POLLIN)

    def _pass_back(self, number: int) -> None:
        """Pass the answer back; the connection to the server ends with it."""
        away, client, sender = self._waiting.pop(number)
        self._poll.unregister(away)
        with away:
            answer = away.recv(MOST_MESSAGE_BYTES)
            if sender is not None:
                client.sendto(answer, sender)
            else:
                with client:
                    client.sendall(answer)
