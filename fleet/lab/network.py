"""The lab's network: one bridge with an address on this machine, and a link from it to each host.

No host has a default route, and nothing is forwarded or translated: a lab can't be reached from outside and can't reach
out. Neighbour entries are static, because all network namespaces share the size limit of one ARP table; IPv6 is off for
the same reason. A cut is a link without carrier, as when a cable is pulled: neither end gets a FIN or RST.
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
"""The subnets come from a part of 10/8 that is seldom used, then from the range for benchmarks (RFC 2544)."""
PREFIX_LENGTH = 22
MOST_HOSTS = 1000
"""A bridge has 1023 ports."""
RATE = re.compile(r"[1-9][0-9]*(\.[0-9]+)?([kmg]?bit)")
NOT_A_DROP = 4294967295
CUT_PREF = "9"
RANDOM = 4294963256
"""SKF_AD_OFF + SKF_AD_RANDOM: the address at which a classic BPF program loads 32 random bits."""


def choose_subnet(paths: LabPaths) -> IPv4Network:
    """A subnet that this machine doesn't use or route: the one computed from the lab's name, or the next free one."""
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
        f"There is no subnet for lab {paths.name}: this machine uses or routes all of {' and '.join(map(str, RANGES))}.",
        "Stop a lab that fleet lab status shows: fleet lab down --name NAME. Or leave the VPN that routes them.",
    )


def _routed() -> list[IPv4Network]:
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]))
    found = [route["dst"] for route in routes if route["dst"] != "default"]
    return [IPv4Network(text, strict=False) for text in found if text[0].isdigit()]


def address(subnet: IPv4Network, number: int) -> str:
    """The address of host `number`; number 0 is this machine."""
    return str(subnet.network_address + 1 + number)


def mac(ip: str) -> str:
    """The hardware address for an IP address of a lab, computed so that neighbour entries can be static."""
    return "02:f1:" + ":".join(f"{octet:02x}" for octet in IPv4Address(ip).packed)


def make_bridge(paths: LabPaths, subnet: IPv4Network) -> None:
    """Make the lab's bridge, with the first address of the subnet for this machine."""
    bridge, own = paths.prefix, address(subnet, 0)
    run(["ip", "link", "add", bridge, "address", mac(own), "type", "bridge", "stp_state", "0"])
    switch = Path(f"/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6")
    if switch.exists():
        switch.write_text("1")
    lines = [f"link set {bridge} up", f"addr add {own}/{subnet.prefixlen} dev {bridge}"]
    run(["ip", "-batch", "-"], text="\n".join(lines) + "\n")


def cable(paths: LabPaths, host: HostEntry, subnet: IPv4Network, machine_pid: int) -> str:
    """The input of `ip -batch`, run in a host's new network namespace, that makes its link to this machine.

    `machine_pid` is a process in this machine's network namespace.
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
    """Attach the machine's ends of these hosts' links to the bridge, and bring them up."""
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
    """The existing network interfaces of this lab, the bridge last."""
    names = [path.name for path in Path("/sys/class/net").iterdir()]
    cables = sorted(name for name in names if name.startswith(paths.prefix + "-"))
    return (*cables, *(name for name in names if name == paths.prefix))


def remove(link: str) -> None:
    """Remove the link. The kernel may have removed it already, because its host has ended."""
    try:
        run(["ip", "link", "delete", link])
    except FleetError:
        if Path(f"/sys/class/net/{link}").exists():
            raise


def set_carrier(paths: LabPaths, host: HostEntry, up: bool) -> None:
    """Bring the machine's end of the host's link up or down."""
    run(["ip", "link", "set", paths.link(host.number), "up" if up else "down"])


def is_cut(paths: LabPaths, host: HostEntry) -> bool:
    """Whether the host's link is down."""
    try:
        return not int(Path(f"/sys/class/net/{paths.link(host.number)}/flags").read_text(), 16) & 1
    except OSError:
        return True


def cut_port(paths: LabPaths, host: HostEntry, port: int) -> None:
    """Drop the packets of this TCP port on the host's link, each way; all others pass."""
    link = paths.link(host.number)
    if "clsact" not in run(["tc", "qdisc", "show", "dev", link]):
        run(["tc", "qdisc", "add", "dev", link, "clsact"])
    for way in ("ingress", "egress"):
        program = ["bpf", "direct-action", "bytecode", _drop_port(port)]
        run(["tc", "filter", "replace", "dev", link, way, "pref", CUT_PREF, *program])


def heal_ports(paths: LabPaths, host: HostEntry) -> None:
    """Undo every `cut_port`."""
    link = paths.link(host.number)
    for way in ("ingress", "egress"):
        if f"pref {CUT_PREF} " in run(["tc", "filter", "show", "dev", link, way]):
            run(["tc", "filter", "delete", "dev", link, way, "pref", CUT_PREF])


def slow_down(paths: LabPaths, host: HostEntry, host_pid: int, *, rate: str | None, loss_percent: float) -> None:
    """Limit the host's link to this rate and lose this share of packets, each way; `None` and 0 undo it.

    The rate is a token bucket at each end of the link. The loss is a classic BPF filter that draws a random number for
    each packet, because that needs nothing but `tc`.
    """
    if rate is not None and not RATE.fullmatch(rate):
        raise Refused(f"--rate {rate!r} is not a rate.", "Write it as 10mbit, 512kbit or 1.5mbit.")
    if not 0 <= loss_percent < 100:
        raise Refused(f"--loss {loss_percent:g} is out of range.", "Give a percentage from 0 to below 100.")
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
    """A classic BPF program as `tc` reads it: load a random word; pass the packet if it is above the mark, else drop it."""
    mark = min(int(loss_percent / 100 * 2**32), 2**32 - 1)
    return f"4,32 0 0 {RANDOM},37 1 0 {mark},6 0 0 2,6 0 0 {NOT_A_DROP}"


def _drop_port(port: int) -> str:
    """A classic BPF program: drop IPv4 without options that carries TCP from or to the port; pass all else."""
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
