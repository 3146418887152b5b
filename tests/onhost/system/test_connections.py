"""What the machine sees of connections, and how it connects."""

import os
import socket
from pathlib import Path

import pytest

from fleet.onhost.system.machine import Machine
from fleet.onhost.system.sockets import established
from tests.support.private_nginx import wait_until


def test_the_established_connections_of_a_process_are_counted() -> None:
    machine = Machine()
    before = machine.established([os.getpid()])

    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        machine.dial("127.0.0.1", server.getsockname()[1], timeout_s=5.0),
    ):
        assert machine.established([os.getpid()]) == before + 1


def test_a_socket_that_nothing_listens_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Machine().dial_unix(str(tmp_path / "socket"), 5.0, os.getpid())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_are_found_by_their_sockets_with_their_port_and_how_long_they_are_silent(host: str) -> None:
    machine = Machine()
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        port = server.getsockname()[1]
        with machine.dial(host, port, timeout_s=5.0) as client, server.accept()[0] as accepted:
            client.sendall(b"x")
            inode = os.fstat(accepted.fileno()).st_ino

            found = machine.among({inode}, os.getpid())

            assert [(one.inode, one.port) for one in found] == [(inode, port)]
            assert found[0].silent_s is not None
            assert 0.0 <= found[0].silent_s < 5.0
            by_table = established("/proc/self/net", {inode})
            assert [(one.inode, one.port, one.silent_s) for one in by_table] == [(inode, port, None)]


def test_a_connection_that_carries_nothing_is_silent_for_longer_and_longer() -> None:
    machine = Machine()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        machine.dial("127.0.0.1", server.getsockname()[1], timeout_s=5.0) as client,
        server.accept()[0] as accepted,
    ):
        inode = os.fstat(accepted.fileno()).st_ino

        def silent_s() -> float:
            return machine.among({inode}, os.getpid())[0].silent_s or 0.0

        wait_until(lambda: silent_s() > 0.2, "a silent connection")
        client.sendall(b"x")
        assert silent_s() < 0.2
