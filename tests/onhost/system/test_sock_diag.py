"""Who listens, and who accepted a connection: on real sockets and processes."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import cast

import pytest

from fleet.onhost.system.machine import Machine
from fleet.onhost.system.sock_diag import tcp_listeners, tcp_peer_inodes, unix_peer_inodes
from tests.support.private_nginx import wait_until

CREDENTIALS = struct.Struct("iII")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as found:
        found.bind(str(tmp_path / "n.sock"))
        found.listen()
        yield found


def dial(server: socket.socket) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.connect(server.getsockname())
    return found


def inode(one: socket.socket) -> int:
    return os.fstat(one.fileno()).st_ino


def test_the_far_end_has_no_inode_until_it_is_accepted(server: socket.socket) -> None:
    with dial(server) as first, dial(server) as second:
        assert unix_peer_inodes([first, second]) == [0, 0]

        with server.accept()[0] as accepted:
            assert unix_peer_inodes([first, second]) == [inode(accepted), 0]
            assert unix_peer_inodes([accepted]) == [inode(first)]


def test_the_acceptor_is_found_although_the_credentials_name_the_listener(server: socket.socket) -> None:
    """As with nginx: the master listens, a worker accepts."""
    context = get_context("fork")
    told, may_end = context.Event(), context.Event()

    def accept() -> None:
        accepted = server.accept()[0]
        told.set()
        may_end.wait(30)
        accepted.close()

    worker = context.Process(target=accept)
    worker.start()
    try:
        with dial(server) as client:
            assert told.wait(30)
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)

            assert worker.pid is not None
            assert unix_peer_inodes([client])[0] in Machine().socket_inodes(worker.pid)
            assert CREDENTIALS.unpack(credentials)[0] == os.getpid()
    finally:
        may_end.set()
        worker.join()


def test_a_connection_that_the_kernel_does_not_know_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="does not say whose"):
        unix_peer_inodes([other])


def test_a_machine_asks_for_either_family(server: socket.socket) -> None:
    machine = Machine()

    with dial(server) as client:
        assert machine.peer_inodes([client]) == [0]
    assert machine.peer_inodes([]) == []


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::"), (socket.AF_INET6, "::1")]
)
def test_a_tcp_listener_is_told_and_its_connections_are_not(family: socket.AddressFamily, host: str) -> None:
    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        with socket.create_connection((host if host != "::" else "::1", port)), server.accept()[0]:
            found = [one for one in tcp_listeners() if one.port == port]

            assert found == [(inode(server), family, host, port)]


def test_a_socket_that_no_longer_listens_is_not_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.shutdown(socket.SHUT_RDWR)

        assert inode(server) not in {one.inode for one in tcp_listeners()}


def test_a_thousand_listeners_are_told() -> None:
    """More than one message of the kernel holds."""
    with ExitStack() as opened:
        servers = [opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1)) for _ in range(1000)]

        assert {inode(one) for one in servers} <= {one.inode for one in tcp_listeners()}


def test_the_far_end_of_a_closed_connection_is_nobody_s() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted = server.accept()[0]
        assert tcp_peer_inodes([client]) == [inode(accepted)]

        accepted.close()

        wait_until(lambda: tcp_peer_inodes([client]) == [0], "a far end without a process")


def test_a_socket_of_ours_that_the_kernel_does_not_know_is_an_error() -> None:
    """As with a kernel without inet_diag, which gives the same error."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        lying = Lying(client)

        with pytest.raises(OSError, match="does not say whose"):
            tcp_peer_inodes([cast(socket.socket, lying)])


class Lying:
    """A connection whose near end is said to be elsewhere."""

    family = socket.AF_INET

    def __init__(self, one: socket.socket) -> None:
        self.getpeername = one.getpeername

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.9", 9
