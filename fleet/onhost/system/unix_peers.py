"""Who has the other end of a connection to a UNIX socket: asked of the kernel by netlink (sock_diag(7), UNIX_DIAG_PEER).

Nothing else tells it. /proc/net/unix lists the inode of each end and not which ones belong together, and SO_PEERCRED
names the process that called listen(): nginx's master, of either generation (docs/nginx-facts.md, section 8).
"""

import os
import socket
import struct
from typing import List, Sequence

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
ALL_STATES = 0xFFFFFFFF
UDIAG_SHOW_PEER = 4
UNIX_DIAG_PEER = 2
NO_COOKIE = 0xFFFFFFFF
ANSWER_S = 5.0
MOST_BYTES = 8192

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
REQUEST = struct.Struct("=BBHIIIII")  # struct unix_diag_req
MESSAGE_BYTES = 16  # struct unix_diag_msg
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr


def peer_inodes(connections: Sequence[socket.socket]) -> List[int]:
    """Inodes of the far ends, in the same order; 0 until a process has accepted the connection.

    Raises OSError, also when this kernel has no unix_diag.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(ANSWER_S)
        return [_peer_inode(kernel, os.fstat(one.fileno()).st_ino) for one in connections]


def _peer_inode(kernel: socket.socket, inode: int) -> int:
    request = REQUEST.pack(socket.AF_UNIX, 0, 0, ALL_STATES, inode, UDIAG_SHOW_PEER, NO_COOKIE, NO_COOKIE)
    kernel.send(HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0) + request)
    answer = kernel.recv(MOST_BYTES)
    length, kind = HEADER.unpack_from(answer)[:2]
    if kind == NLMSG_ERROR:
        code = -struct.unpack_from("=i", answer, HEADER.size)[0]
        raise OSError(code, "the kernel does not say who took it (unix_diag: %s)" % os.strerror(code))
    at = HEADER.size + MESSAGE_BYTES
    while at + ATTRIBUTE.size <= length:
        size, name = ATTRIBUTE.unpack_from(answer, at)
        if name == UNIX_DIAG_PEER:
            return int(struct.unpack_from("=I", answer, at + ATTRIBUTE.size)[0])
        at += max(ATTRIBUTE.size, (size + 3) & ~3)
    return 0
