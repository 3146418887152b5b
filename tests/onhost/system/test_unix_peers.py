"""Who accepted a connection to a UNIX socket: on real sockets and processes."""

import os
import socket
import struct
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from fleet.onhost.system.machine import Machine
from fleet.onhost.system.unix_peers import peer_inodes

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
        assert peer_inodes([first, second]) == [0, 0]

        with server.accept()[0] as accepted:
            assert peer_inodes([first, second]) == [inode(accepted), 0]
            assert peer_inodes([accepted]) == [inode(first)]


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
            assert peer_inodes([client])[0] in Machine().socket_inodes(worker.pid)
            assert CREDENTIALS.unpack(credentials)[0] == os.getpid()
    finally:
        may_end.set()
        worker.join()


def test_a_connection_that_the_kernel_does_not_know_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="does not say who took it"):
        peer_inodes([other])


def test_a_machine_asks_for_either_family(server: socket.socket) -> None:
    machine = Machine()

    with dial(server) as client:
        assert machine.peer_inodes([client]) == [0]
    assert machine.peer_inodes([]) == []
