"""The sockets of this host, its addresses, and connections to it, as a `Machine` sees and makes them."""

import os
import socket
from typing import Collection, Dict, List, Optional, Sequence

from fleet.onhost.system import sock_diag, sockets
from fleet.onhost.system.sock_diag import Established
from fleet.onhost.system.sockets import Listener


class Connections:
    """The sockets of this host, its addresses, and connections to it."""

    def listeners(self, pid: int) -> Dict[int, Listener]:
        """The listening TCP and UNIX sockets and the unconnected UDP sockets of the process's network namespace, by inode."""
        return sockets.listeners("/proc/%d/net" % pid, ours=_has_our_network(pid))

    def peer_inodes(self, connections: Sequence[socket.socket]) -> List[int]:
        """Inodes of the far ends of connections to this host, in the same order; 0 until a process accepts the connection.

        All of them are of one family. Raises OSError.
        """
        if connections and connections[0].family == socket.AF_UNIX:
            return sock_diag.unix_peer_inodes(connections)
        return sockets.peer_inodes(connections)

    def among(self, inodes: Collection[int], pid: int) -> List[Established]:
        """The established TCP connections among these sockets. They are in the network namespace of this process."""
        if not inodes:
            return []
        from fleet.onhost.system.network_namespace import in_network_of

        try:
            return in_network_of(pid, lambda: sock_diag.tcp_established(inodes))
        except OSError:
            return sockets.established("/proc/%d/net" % pid, inodes)

    def bind_error(self, kind: str, host: str, port: int, pid: int) -> Optional[str]:
        """Why a server can't bind this address now in the network of this process, or `None` if it can.

        `kind` is `tcp`, `tcp6`, `udp` or `udp6`. Raises OSError.
        """
        from fleet.onhost.system.network_namespace import in_network_of

        return in_network_of(pid, lambda: self._bind_error(kind, host, port))

    def _bind_error(self, kind: str, host: str, port: int) -> Optional[str]:
        family = socket.AF_INET6 if kind.endswith("6") else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM if kind.startswith("udp") else socket.SOCK_STREAM) as tried:
            if tried.type == socket.SOCK_STREAM:  # with SO_REUSEADDR a UDP bind would always succeed
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                tried.bind((host, port))
            except OSError as error:
                return error.strerror
        return None

    def dial(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """An open TCP connection. Raises OSError."""
        return socket.create_connection((host, port), timeout=timeout_s)

    def dial_unix(self, path: str, timeout_s: float, pid: int) -> socket.socket:
        """An open connection to the UNIX socket that this process sees at the path. Raises OSError.

        nginx may have a /tmp of its own (PrivateTmp). The detour over a descriptor leaves room in the address for a path of
        any length that nginx can listen on.
        """
        place = os.open("/proc/%d/root%s" % (pid, path), os.O_PATH)
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        found.settimeout(timeout_s)
        try:
            found.connect("/proc/self/fd/%d" % place)
        except OSError:
            found.close()
            raise
        finally:
            os.close(place)
        return found


def _has_our_network(pid: int) -> bool:
    """Whether the process is in this process's network namespace."""
    try:
        return os.path.samestat(os.stat("/proc/self/ns/net"), os.stat("/proc/%d/ns/net" % pid))
    except OSError:
        return False
