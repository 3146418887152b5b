"""The lab's wires: one bridge with an address on the machine, one cable to each host, nothing beyond.

No host has a default route and nothing is forwarded or translated, so a lab can neither be reached from outside nor
reach out. Neighbours are static, because the ARP table is one for all network namespaces of a machine and small; IPv6
is off for the same reason. A cut is a link without carrier: no FIN, no RST, just silence, as when a cable is pulled.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from fleet.errors import FleetError, Refused
from fleet.lab.folder import HostEntry, LabPaths
from fleet.lab.processes import run

RANGES = (IPv4Network("10.64.0.0/10"), IPv4Network("198.18.0.0/15"))
"""Where subnets are taken from: a corner of 10/8 that is seldom used, then the range kept for test beds (RFC 2544)."""
PREFIX_LENGTH = 22
MOST_HOSTS = 1000
"""A bridge has 1023 ports."""
RATE = re.compile(r"[1-9][0-9]*(\.[0-9]+)?([kmg]?bit)")
NOT_A_DROP = 4294967295
CUT_PREF = "9"
RANDOM = 4294963256
"""SKF_AD_OFF + SKF_AD_RANDOM: where a classic BPF program loads 32 random bits from."""


def choose_subnet(paths: LabPaths) -> IPv4Network:
    """A subnet that nothing on this machine has or routes: the one that belongs to the lab's name, or the next free."""
    taken = _routed()
    start = int.from_bytes(hashlib.sha256(str(paths.folder).encode()).digest()[:4], "big")
    for pool in RANGES:
        count = 2 ** (PREFIX_LENGTH - pool.prefixlen)
        for step in range(count):
            first = int(pool.network_address) + ((start + step) % count) * 2 ** (32 - PREFIX_LENGTH)
            subnet = IPv4Network((first, PREFIX_LENGTH))
            if not any(subnet.overlaps(other) for other in taken):
                return subnet
    raise Refused(
        f"lab {paths.name}: every subnet in {' and '.join(map(str, RANGES))} is used or routed on this machine.",
        "Bring down labs that are not needed (`fleet lab status`), or leave the VPN that routes all of them.",
    )


def _routed() -> list[IPv4Network]:
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]))
    found = [route["dst"] for route in routes if route["dst"] != "default"]
    return [IPv4Network(text, strict=False) for text in found if text[0].isdigit()]


def address(subnet: IPv4Network, number: int) -> str:
    """The address of host `number`; the machine's own is number 0."""
    return str(subnet.network_address + 1 + number)


def mac(ip: str) -> str:
    """The hardware address that goes with an address of a lab, so that neighbours need not ask."""
    return "02:f1:" + ":".join(f"{octet:02x}" for octet in IPv4Address(ip).packed)


def make_bridge(paths: LabPaths, subnet: IPv4Network) -> None:
    """The lab's bridge is up and the machine has the first address of the subnet on it."""
    bridge, own = paths.prefix, address(subnet, 0)
    run(["ip", "link", "add", bridge, "address", mac(own), "type", "bridge", "stp_state", "0"])
    switch = Path(f"/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6")
    if switch.exists():
        switch.write_text("1")
    lines = [f"link set {bridge} up", f"addr add {own}/{subnet.prefixlen} dev {bridge}"]
    run(["ip", "-batch", "-"], text="\n".join(lines) + "\n")


def cable(paths: LabPaths, host: HostEntry, subnet: IPv4Network, machine_pid: int) -> str:
    """The `ip -batch` that, run inside a host's new network namespace, gives it its link to the machine's one.

    `machine_pid` is a process of the machine's network namespace.
    """
    own = address(subnet, 0)
    return "\n".join(
        (
            f"link add eth0 address {mac(host.address)} type veth peer name {paths.link(host.number)} netns {machine_pid}",
            "link set lo up",
            "link set eth0 up",
            f"addr add {host.address}/{subnet.prefixlen} dev eth0",
            f"neigh replace {own} lladdr {mac(own)} dev eth0 nud permanent",
            "",
        )
    )


def plug_in(paths: LabPaths, hosts: Iterable[HostEntry]) -> None:
    """The machine's ends of these hosts' cables are in the bridge and up."""
    lines = []
    for host in hosts:
        link = paths.link(host.number)
        lines += [
            f"link set {link} addrgenmode none",
            f"link set {link} master {paths.prefix} up",
            f"neigh replace {host.address} lladdr {mac(host.address)} dev {paths.prefix} nud permanent",
        ]
    run(["ip", "-batch", "-"], text="\n".join(lines) + "\n")


def links(paths: LabPaths) -> tuple[str, ...]:
    """The interfaces of this lab that are there now, the bridge last."""
    names = [path.name for path in Path("/sys/class/net").iterdir()]
    cables = sorted(name for name in names if name.startswith(paths.prefix + "-"))
    return (*cables, *(name for name in names if name == paths.prefix))


def remove(link: str) -> None:
    """The link is gone, also when the kernel was taking it away itself just then (its host has died)."""
    try:
        run(["ip", "link", "delete", link])
    except FleetError:
        if Path(f"/sys/class/net/{link}").exists():
            raise


def set_carrier(paths: LabPaths, host: HostEntry, up: bool) -> None:
    """The host's cable is plugged in, or pulled."""
    run(["ip", "link", "set", paths.link(host.number), "up" if up else "down"])


def is_cut(paths: LabPaths, host: HostEntry) -> bool:
    """Whether the host's cable is pulled."""
    try:
        return not int(Path(f"/sys/class/net/{paths.link(host.number)}/flags").read_text(), 16) & 1
    except OSError:
        return True


def cut_port(paths: LabPaths, host: HostEntry, port: int) -> None:
    """Nothing of this TCP port goes through the host's cable, either way, and no end is told; all else does."""
    link = paths.link(host.number)
    if "clsact" not in run(["tc", "qdisc", "show", "dev", link]):
        run(["tc", "qdisc", "add", "dev", link, "clsact"])
    for way in ("ingress", "egress"):
        program = ["bpf", "direct-action", "bytecode", _drop_port(port)]
        run(["tc", "filter", "replace", "dev", link, way, "pref", CUT_PREF, *program])


def heal_ports(paths: LabPaths, host: HostEntry) -> None:
    """Every port goes through again."""
    link = paths.link(host.number)
    for way in ("ingress", "egress"):
        if f"pref {CUT_PREF} " in run(["tc", "filter", "show", "dev", link, way]):
            run(["tc", "filter", "delete", "dev", link, way, "pref", CUT_PREF])


def slow_down(paths: LabPaths, host: HostEntry, host_pid: int, *, rate: str | None, loss_percent: float) -> None:
    """The host's link has this rate each way and loses this share of the packets each way; `None` and 0 undo it.

    The rate is a token bucket at each end of the cable. Loss is a classic BPF filter that draws a random number for
    each packet: nothing but `tc` is needed for it.
    """
    if rate is not None and not RATE.fullmatch(rate):
        raise Refused(f"rate {rate!r}: not a rate.", "Write it like 10mbit, 512kbit or 1.5mbit.")
    if not 0 <= loss_percent < 100:
        raise Refused(f"loss {loss_percent}: not a share of the packets.", "Give a percentage from 0 to below 100.")
    link = paths.link(host.number)
    bucket = ["root", "tbf", "rate", str(rate), "burst", "32kb", "latency", "400ms"]
    for enter, device in (([], link), (["nsenter", "-t", str(host_pid), "-n"], "eth0")):
        tc = [*enter, "tc", "qdisc"]
        if "tbf" in run([*tc, "show", "dev", device, "root"]):
            run([*tc, "delete", "dev", device, "root"])
        if rate is not None:
            run([*tc, "add", "dev", device, *bucket])
    if "clsact" in run(["tc", "qdisc", "show", "dev", link]):
        run(["tc", "qdisc", "delete", "dev", link, "clsact"])
    if loss_percent:
        run(["tc", "qdisc", "add", "dev", link, "clsact"])
        for way in ("ingress", "egress"):
            program = _drop(loss_percent)
            run(["tc", "filter", "add", "dev", link, way, "bpf", "direct-action", "bytecode", program])


def _drop(loss_percent: float) -> str:
    """A classic BPF program as `tc` reads it: load a random word; above the mark let the packet go, else drop it."""
    mark = min(int(loss_percent / 100 * 2**32), 2**32 - 1)
    return f"4,32 0 0 {RANDOM},37 1 0 {mark},6 0 0 2,6 0 0 {NOT_A_DROP}"


def _drop_port(port: int) -> str:
    """A classic BPF program: IPv4 without options that carries TCP from or to the port is dropped, all else goes on."""
    lines = (
        "40 0 0 12",  # the type of what the frame holds
        "21 0 6 2048",
        "48 0 0 23",  # the protocol
        "21 0 4 6",
        "40 0 0 34",  # the source port
        f"21 3 0 {port}",
        "40 0 0 36",  # the destination port
        f"21 1 0 {port}",
        f"6 0 0 {NOT_A_DROP}",
        "6 0 0 2",
    )
    return ",".join((str(len(lines)), *lines))
