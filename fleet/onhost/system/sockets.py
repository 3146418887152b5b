"""The kernel's sockets as values: listening sockets, and the far end of a connection.

TCP sockets are asked for by netlink (`sock_diag`), and where that can't be had, read from the tables in /proc/net. On a busy
host these have tens of thousands of lines, so lines are selected as text before any is parsed.
"""

import socket
import sys
from typing import Collection, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from fleet.onhost.system import sock_diag

ESTABLISHED = " 01 "
LISTENING = " 0A "
UNCONNECTED = " 07 "
ACCEPTS = " 00010000 "  # __SO_ACCEPTCON: a UNIX socket in listening state.

End = Tuple[str, int]


class Listener(NamedTuple):
    """A listening (or unconnected UDP) socket: `address` is `127.0.0.1:80`, `[::]:443` or a path."""

    inode: int
    kind: str
    address: str


def listeners(folder: str, ours: bool = False) -> Dict[int, Listener]:
    """The listening TCP and UNIX sockets and the unconnected UDP sockets of a /proc/PID/net folder, by inode.

    `ours`: the folder is that of this process's own network namespace.
    """
    found = _tcp_by_netlink() if ours else {}
    tables = (("udp", UNCONNECTED), ("udp6", UNCONNECTED))
    for kind, state in tables if found else (("tcp", LISTENING), ("tcp6", LISTENING), *tables):
        for fields in _lines(folder + "/" + kind, state):
            if fields[3] == state.strip():
                inode = int(fields[9])
                found[inode] = Listener(inode, kind, address(fields[1]))
    for fields in _lines(folder + "/unix", ACCEPTS):
        if len(fields) < 7 or not fields[6].isdigit():
            continue
        inode = int(fields[6])
        found[inode] = Listener(inode, "unix", fields[7] if len(fields) > 7 else "")
    return found


def established(folder: str, inodes: Collection[int]) -> List[sock_diag.Established]:
    """The established TCP connections among these sockets, by a /proc/PID/net folder. How long they are silent is not there."""
    found = []
    for kind in ("tcp", "tcp6"):
        for fields in _lines(folder + "/" + kind, ESTABLISHED):
            if fields[3] == ESTABLISHED.strip() and int(fields[9]) in inodes:
                found.append(sock_diag.Established(int(fields[9]), int(fields[1].rpartition(":")[2], 16)))
    return found


def _tcp_by_netlink() -> Dict[int, Listener]:
    """The listening TCP sockets of this process's network namespace, by inode; none where the kernel can't be asked."""
    try:
        every = sock_diag.tcp_listeners()
    except OSError:
        return {}
    return {one.inode: _listener(one) for one in every}


def _listener(one: sock_diag.Listening) -> Listener:
    six = one.family == socket.AF_INET6
    return Listener(one.inode, "tcp6" if six else "tcp", "%s:%d" % ("[%s]" % one.host if six else one.host, one.port))


def peer_inodes(connections: Sequence[socket.socket]) -> List[int]:
    """Inodes of the far ends of connections to this host, in the same order; 0 until a process has accepted the connection."""
    try:
        return sock_diag.tcp_peer_inodes(connections)
    except OSError:
        return peer_inodes_by_table("/proc/self/net", connections)


def peer_inodes_by_table(folder: str, connections: Sequence[socket.socket]) -> List[int]:
    """As `peer_inodes`, by a /proc/PID/net folder.

    A listener on `::` may take an IPv4 connection, too. Only the IPv6 table has that one, and it is read only for this.
    """
    found = [0] * len(connections)
    for kind, six in (("tcp", False), ("tcp6", True)):
        sought = [n for n, one in enumerate(connections) if not found[n] and (six or one.family == socket.AF_INET)]
        table = _text(folder + "/" + kind) if sought else ""
        for n in sought:
            ends = connections[n].getpeername()[:2], connections[n].getsockname()[:2]
            found[n] = _inode(table, *[written(end, six) for end in ends])
    return found


def _inode(table: str, local: str, remote: str) -> int:
    """The inode in the line of this connection; 0 when there is none."""
    start = table.find("%s %s " % (local, remote))
    if start < 0:
        return 0
    return int(table[start : table.find("\n", start)].split()[8])


def _lines(path: str, having: str) -> Iterator[List[str]]:
    return (line.split() for line in _text(path).split("\n")[1:] if having in line)


def _text(path: str) -> str:
    try:
        with open(path, "rb") as source:
            return source.read().decode("utf-8", "replace")  # An abstract name may hold any bytes.
    except OSError:
        return ""


def written(end: End, six: bool) -> str:
    """An address as the tables write it; an IPv4 one in the IPv6 table is mapped. The opposite of `address`."""
    host = end[0].partition("%")[0] if ":" in end[0] or not six else "::ffff:" + end[0]
    raw = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, host)
    words = ["%08X" % int.from_bytes(raw[n : n + 4], sys.byteorder) for n in range(0, len(raw), 4)]
    return "%s:%04X" % ("".join(words), end[1])


def address(text: str) -> str:
    """`0100007F:0050` as `127.0.0.1:80`; the kernel writes each 32-bit word in the machine's byte order."""
    words, port = text.split(":")
    raw = b"".join(int(words[n : n + 8], 16).to_bytes(4, sys.byteorder) for n in range(0, len(words), 8))
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    host = socket.inet_ntop(family, raw)
    return "%s:%d" % (host if family == socket.AF_INET else "[%s]" % host, int(port, 16))
