"""What the machine sees of connections, and how it connects."""

import os
import socket
from pathlib import Path

import pytest

from fleet.onhost.system.machine import Machine


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
