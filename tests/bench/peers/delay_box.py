"""A longer way to the hosts of a lab: a relay of two TAP devices, because not every kernel has netem.

Packets to the lab's subnet are routed to one TAP. The relay, a process of its own, reads them there, and puts them on the
other one, a port of the lab's bridge, when their time has come. The answers come back at once: all of the delay lies on the
way there, which a TCP connection can't tell from half of it on each. The devices pass segments of up to 64 kB with their
checksums undone, so the relay has 10 to 40 times fewer packets to carry than the wire.
"""

import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network

from fleet.lab import network
from fleet.lab.processes import run
from tests.bench.peers.bench_lab import BenchLab

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
TAP, NO_HEADER_OF_TUN, HEADER_OF_VIRTIO = 0x0002, 0x1000, 0x4000
CHECKSUM, TSO4 = 0x01, 0x02
LONGEST = 70_000
QUEUE_PACKETS = "10000"
RUNNER = "import sys; from tests.bench.peers.delay_box import relay; relay(*sys.argv[1:])"


@contextmanager
def delayed(there: BenchLab, delay_ms: float) -> Iterator[None]:
    """A round trip to the hosts takes so long. Nothing is changed for 0."""
    if not delay_ms:
        yield
        return
    entry, port = f"{there.lab.paths.prefix}i", f"{there.lab.paths.prefix}o"
    argv = [sys.executable, "-c", RUNNER, entry, port, str(delay_ms)]
    # The relay ends when its stdin does, so it can't outlive this process, however that ends.
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as box:
        assert box.stdin is not None
        assert box.stdout is not None
        with box.stdin:
            box.stdout.readline()
            _lay(there, entry, port)
            yield


def _lay(there: BenchLab, entry: str, port: str) -> None:
    """Lead what goes to the hosts through the box; the devices, and with them routes and neighbours, end with it."""
    bridge, own = there.lab.paths.prefix, network.address(IPv4Network(there.hosts[0].subnet), 0)
    lines = [
        f"link set {entry} txqueuelen {QUEUE_PACKETS} up",
        f"link set {port} master {bridge} up",
        *(
            f"neigh replace {host.address} lladdr {network.mac(host.address)} dev {entry} nud permanent"
            for host in there.hosts
        ),
        *(f"route add {host.address}/32 dev {entry} src {own}" for host in there.hosts),
    ]
    run(["ip", "-batch", "-"], text="\n".join(lines) + "\n")


def relay(entry: str, port: str, delay_ms: str) -> None:
    """Carry packets from `entry` to `port`, each so much later, until stdin ends."""
    delay_s = float(delay_ms) / 1000
    reader, writer = _tap(entry), _tap(port)
    print("ready", flush=True)
    waiting: deque[tuple[float, bytes]] = deque()
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    poller.register(sys.stdin, select.POLLHUP)
    while True:
        timeout_ms = max(0.0, 1000 * (waiting[0][0] - time.monotonic())) if waiting else None
        ready = dict(poller.poll(timeout_ms))
        if sys.stdin.fileno() in ready:
            return
        if reader in ready:
            waiting.append((time.monotonic() + delay_s, os.read(reader, LONGEST)))
        while waiting and waiting[0][0] <= time.monotonic():
            os.write(writer, waiting.popleft()[1])


def _tap(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP | NO_HEADER_OF_TUN | HEADER_OF_VIRTIO))
    fcntl.ioctl(device, TUNSETOFFLOAD, CHECKSUM | TSO4)
    return device
