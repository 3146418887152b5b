"""The kernel's socket tables, on real sockets."""

import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from fleet.onhost.system import sock_diag
from fleet.onhost.system.sockets import address, listeners, peer_inodes, peer_inodes_by_table, written
from tests.support.private_nginx import wait_until

NET = "/proc/self/net"


@pytest.mark.parametrize(("end", "six"), [(("127.0.0.1", 80), False), (("::1", 443), True), (("fe80::1", 8080), True)])
def test_an_address_is_written_and_read_as_the_kernel_does(end: tuple[str, int], six: bool) -> None:
    host = f"[{end[0]}]" if six else end[0]

    assert address(written(end, six)) == f"{host}:{end[1]}"


def inode(one: socket.socket) -> int:
    return int(Path(f"/proc/self/fd/{one.fileno()}").readlink().name.removeprefix("socket:[").removesuffix("]"))


@pytest.mark.parametrize("ours", [True, False])
def test_a_listening_socket_is_found_with_its_address_and_a_connected_one_is_not(ours: bool, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "sock"))
        unix.listen()
        with socket.create_connection(tcp.getsockname()) as client, tcp.accept()[0]:
            found = listeners(NET, ours)

            assert found[inode(tcp)].address == f"127.0.0.1:{tcp.getsockname()[1]}"
            assert found[inode(unix)].address == str(tmp_path / "sock")
            assert inode(client) not in found


def test_netlink_and_the_tables_tell_the_same() -> None:
    with ExitStack() as opened:
        for host, family in (("127.0.0.1", socket.AF_INET), ("0.0.0.0", socket.AF_INET), ("::1", socket.AF_INET6)):
            opened.enter_context(socket.create_server((host, 0), family=family))

        wait_until(lambda: listeners(NET, ours=True) == listeners(NET), "the same sockets, while others come and go")


def test_without_netlink_the_tables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(2, "no inet_diag")

    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted = server.accept()[0]
        monkeypatch.setattr(sock_diag, "tcp_listeners", unknown)
        monkeypatch.setattr(sock_diag, "tcp_peer_inodes", unknown)

        assert inode(server) in listeners(NET, ours=True)
        assert peer_inodes([client]) == [inode(accepted)]
        accepted.close()


WAYS: dict[str, Callable[[Sequence[socket.socket]], list[int]]] = {
    "netlink": peer_inodes,
    "tables": partial(peer_inodes_by_table, NET),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_far_end_of_a_connection_has_no_inode_until_it_is_accepted(family: socket.AddressFamily, way: str) -> None:
    """A server on `::` takes IPv4 clients, too: then only the IPv6 table knows the connection."""
    peers = WAYS[way]
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        host = "127.0.0.1" if family is socket.AF_INET else "::1"
        with socket.create_connection((host, port)) as client, socket.create_connection((host, port)) as second:
            assert peers([client, second]) == [0, 0]

            with server.accept()[0] as accepted:
                wait_until(lambda: peers([client, second]) == [inode(accepted), 0], "the far end")
