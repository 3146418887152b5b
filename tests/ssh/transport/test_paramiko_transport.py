"""A peer is not trusted before it has proved its key, and never with the size of its data."""

import socket
import threading
from contextlib import closing, suppress

import paramiko
import pytest

from fleet.ssh.hostkeys.acceptance import KnownHost
from fleet.ssh.transport.connection import Link
from fleet.ssh.transport.paramiko_transport import new_transport
from tests.support.private_nginx import wait_until
from tests.support.ssh.server import Sshd
from tests.support.ssh.stubs import QUICK

MAX_BYTES = 4 << 20
"""What a peer may send before it is cut off, the buffers of two sockets included."""
VERSION = b"SSH-2.0-OpenSSH_9.2\r\n"


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (b"", "more than 64 kB before its version"),
        (VERSION + b"\x3f\xff\xff\xfc", "a packet of"),
        (VERSION + b"\xff\xff\xff\xfc", "a packet of"),
    ],
    ids=["a line without an end", "a packet of 1 GB", "a packet of 4 GB"],
)
def test_a_peer_that_sends_too_much_is_cut_off(first: bytes, why: str) -> None:
    near, far = socket.socketpair()
    poured: list[int] = []

    def write_all() -> None:
        with suppress(OSError):
            far.sendall(first)
            while sum(poured) <= MAX_BYTES:
                poured.append(far.send(bytes(1 << 16)))

    thread = threading.Thread(target=write_all)
    with closing(new_transport(near, KnownHost("host", "host", ()))) as transport, closing(far):
        thread.start()

        with pytest.raises(paramiko.SSHException, match=why):
            transport.start_client(timeout=20)

    thread.join()
    assert sum(poured) <= MAX_BYTES


def test_a_host_that_exceeds_its_window_is_cut_off(server: Sshd) -> None:
    """sshd gets a window for all of its output at once, so that an unmodified sshd exceeds the limit."""
    link = Link(server.host, QUICK)
    link.open()
    channel = link.transport.open_session(window_size=64 << 20)

    channel.exec_command("exec head -c 64000000 /dev/zero")

    wait_until(lambda: not link.is_active, "the link is closed")
    assert len(channel.in_buffer) <= MAX_BYTES
    link.close()
