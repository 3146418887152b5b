"""The kernel's sockets, asked for by netlink (sock_diag(7)): who listens, which connections live and are silent, and who has
the other end of one.

For TCP, /proc/net tells the same, but the kernel walks its table of all connections for each reading, which takes 10 ms of
CPU on a large host without any connection. For UNIX sockets nothing else tells the other end: /proc/net/unix lists the inode
of each end and not which ones belong together, and SO_PEERCRED names the process that called listen(): nginx's master, of
either generation (docs/nginx-facts.md, section 8).
"""

import errno
import os
import socket
import struct
from typing import Collection, Iterator, List, NamedTuple, Optional, Sequence, Tuple

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
ALL_STATES = 0xFFFFFFFF
ESTABLISHED_STATE = 1 << 1  # TCP_ESTABLISHED
LISTEN_STATE = 1 << 10  # TCP_LISTEN
TCP_INFO, ASK_TCP_INFO = 2, 1 << 1  # INET_DIAG_INFO, and how a request asks for it
LAST_SENT, LAST_RECEIVED = 44, 52  # tcpi_last_data_sent and tcpi_last_data_recv in struct tcp_info, in milliseconds
MOST_ASKED = 2000
UDIAG_SHOW_PEER = 4
UNIX_DIAG_PEER = 2
NO_COOKIE = 0xFFFFFFFF
ANSWER_S = 5.0
MOST_BYTES = 1 << 16

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
UNIX_REQUEST = struct.Struct("=BBHIIIII")  # struct unix_diag_req
UNIX_MESSAGE_BYTES = 16  # struct unix_diag_msg
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
INET_REQUEST = struct.Struct("=BBBBI")  # struct inet_diag_req_v2, without its socket
INET_MESSAGE = struct.Struct("=BBBB")  # struct inet_diag_msg, up to its socket
INET_SOCKET = struct.Struct("!HH16s16s12s")  # struct inet_diag_sockid: ports, addresses, and what narrows a search
INET_INODE = INET_MESSAGE.size + INET_SOCKET.size + 16
INET_ATTRIBUTES = INET_INODE + 4
ANY_OF_THEM = b"\0" * 4 + b"\xff" * 8  # Any network device; no cookie.

End = Tuple[str, int]


class Listening(NamedTuple):
    """A listening TCP socket."""

    inode: int
    family: int
    host: str
    port: int


class Established(NamedTuple):
    """An established TCP connection: the inode of the socket here, its local port, and how long no data came or went.

    `silent_s` is `None` where the kernel does not say it.
    """

    inode: int
    port: int
    silent_s: Optional[float] = None


def tcp_established(inodes: Collection[int]) -> List[Established]:
    """The established connections among these sockets. The kernel keeps no time at which a connection was made.

    The list of all connections is asked for without details: the kernel would lock every one of them. Details are asked for
    socket by socket, of the first `MOST_ASKED`. Raises OSError, also when this kernel has no inet_diag.
    """
    found: List[Established] = []
    with _kernel() as kernel:
        for family in (socket.AF_INET, socket.AF_INET6):
            nothing = INET_SOCKET.pack(0, 0, b"", b"", b"")
            request = INET_REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, ESTABLISHED_STATE) + nothing
            _send(kernel, NLM_F_REQUEST | NLM_F_DUMP, request)
            ours = [message for message in _dump(kernel) if _inode(message) in inodes]
            for message in ours:
                silent_s = _silent_s(kernel, family, message) if len(found) < MOST_ASKED else None
                port = INET_SOCKET.unpack_from(message, INET_MESSAGE.size)[0]
                found.append(Established(_inode(message), port, silent_s))
    return found


def _silent_s(kernel: socket.socket, family: int, of: bytes) -> Optional[float]:
    """How long no data came or went on the connection of this message, in seconds; `None` once it is gone."""
    socket_id = of[INET_MESSAGE.size : INET_MESSAGE.size + INET_SOCKET.size]
    _send(
        kernel,
        NLM_F_REQUEST,
        INET_REQUEST.pack(family, socket.IPPROTO_TCP, ASK_TCP_INFO, 0, ESTABLISHED_STATE) + socket_id,
    )
    try:
        message = _answer(kernel, "inet_diag")
    except FileNotFoundError:
        return None
    info = _attribute(message, INET_ATTRIBUTES, TCP_INFO)
    if len(info) < LAST_RECEIVED + 4:
        return None
    milliseconds = [struct.unpack_from("=I", info, at)[0] for at in (LAST_SENT, LAST_RECEIVED)]
    return float(min(milliseconds)) / 1000.0


def _attribute(message: bytes, at: int, name: int) -> bytes:
    """The value of this attribute; the attributes begin at `at`. Empty where there is none."""
    while at + ATTRIBUTE.size <= len(message):
        size, found = ATTRIBUTE.unpack_from(message, at)
        if found == name:
            return message[at + ATTRIBUTE.size : at + size]
        at += max(ATTRIBUTE.size, (size + 3) & ~3)
    return b""


def tcp_listeners() -> List[Listening]:
    """The listening TCP sockets of this process's network namespace. Raises OSError, also when this kernel has no inet_diag."""
    found = []
    with _kernel() as kernel:
        for family in (socket.AF_INET, socket.AF_INET6):
            nothing = INET_SOCKET.pack(0, 0, b"", b"", b"")
            request = INET_REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, LISTEN_STATE) + nothing
            _send(kernel, NLM_F_REQUEST | NLM_F_DUMP, request)
            for message in _dump(kernel):
                port, _, address = INET_SOCKET.unpack_from(message, INET_MESSAGE.size)[:3]
                host = socket.inet_ntop(family, address[: 4 if family == socket.AF_INET else 16])
                found.append(Listening(_inode(message), int(family), host, port))
    return found


def tcp_peer_inodes(connections: Sequence[socket.socket]) -> List[int]:
    """Inodes of the far ends, in the same order; 0 until a process has accepted the connection. The near ends are ours.

    Raises OSError, also when this kernel has no inet_diag.
    """
    with _kernel() as kernel:
        found = []
        for one in connections:
            near, far = one.getsockname()[:2], one.getpeername()[:2]
            # A kernel without inet_diag gives the same error as for a socket that it does not know: it must know ours.
            _one_inode(kernel, one.family, near, far)
            try:
                found.append(_one_inode(kernel, one.family, far, near))
            except FileNotFoundError:
                found.append(0)
    return found


def _one_inode(kernel: socket.socket, family: int, local: End, remote: End) -> int:
    """The inode of the socket with these ends. Raises OSError; `FileNotFoundError` when there is none."""
    addresses = [socket.inet_pton(family, host.partition("%")[0]) for host, _ in (local, remote)]
    sought = INET_SOCKET.pack(local[1], remote[1], addresses[0], addresses[1], ANY_OF_THEM)
    _send(kernel, NLM_F_REQUEST, INET_REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, ALL_STATES) + sought)
    return _inode(_answer(kernel, "inet_diag"))


def _inode(message: bytes) -> int:
    return int(struct.unpack_from("=I", message, INET_INODE)[0])


def unix_peer_inodes(connections: Sequence[socket.socket]) -> List[int]:
    """Inodes of the far ends, in the same order; 0 until a process has accepted the connection.

    Raises OSError, also when this kernel has no unix_diag.
    """
    with _kernel() as kernel:
        return [_unix_peer_inode(kernel, os.fstat(one.fileno()).st_ino) for one in connections]


def _unix_peer_inode(kernel: socket.socket, inode: int) -> int:
    request = UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, ALL_STATES, inode, UDIAG_SHOW_PEER, NO_COOKIE, NO_COOKIE)
    _send(kernel, NLM_F_REQUEST, request)
    peer = _attribute(_answer(kernel, "unix_diag"), UNIX_MESSAGE_BYTES, UNIX_DIAG_PEER)
    return int(struct.unpack("=I", peer)[0]) if len(peer) == 4 else 0


def _kernel() -> socket.socket:
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
    kernel.settimeout(ANSWER_S)
    return kernel


def _send(kernel: socket.socket, flags: int, request: bytes) -> None:
    kernel.send(HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, flags, 0, 0) + request)


def _answer(kernel: socket.socket, who: str) -> bytes:
    """The one message that answers the request. Raises OSError."""
    data = kernel.recv(MOST_BYTES)
    length, kind = HEADER.unpack_from(data)[:2]
    if kind == NLMSG_ERROR:
        raise _error(data, who)
    return data[HEADER.size : length]


def _dump(kernel: socket.socket) -> Iterator[bytes]:
    """Every message of the list that answers the request. Raises OSError."""
    while True:
        data = kernel.recv(MOST_BYTES)
        while data:
            length, kind = HEADER.unpack_from(data)[:2]
            if kind == NLMSG_ERROR or (kind == NLMSG_DONE and _code(data) < 0):
                raise _error(data, "inet_diag")
            if kind == NLMSG_DONE:
                return
            yield data[HEADER.size : length]
            data = data[max(HEADER.size, (length + 3) & ~3) :]


def _code(data: bytes) -> int:
    """The error that ends a list or answers a request, negative; 0 where there is none."""
    return int(struct.unpack_from("=i", data, HEADER.size)[0]) if len(data) >= HEADER.size + 4 else 0


def _error(data: bytes, who: str) -> OSError:
    code = -_code(data) or errno.EPROTO
    return OSError(code, "the kernel does not say whose socket it is (%s: %s)" % (who, os.strerror(code)))
