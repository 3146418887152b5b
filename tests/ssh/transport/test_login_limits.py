"""Many logins at once at an sshd with a low MaxStartups: they queue, and a dropped login is tried again."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from fleet.host import Host
from fleet.ssh.remote.command import Command
from fleet.ssh.transport.connection import MAX_HANDSHAKES, Link
from tests.support.ssh.server import Sshd, sshd
from tests.support.ssh.stubs import QUICK

MANY = 5 * MAX_HANDSHAKES
FEW = 3


def said_and_told(hosts: list[Host], on_note: Callable[[], object] = bool) -> tuple[set[bytes], list[str]]:
    """The output of a command on all of them at the same time, and the notes about the way there.

    `on_note` is called with each note.
    """
    told: list[str] = []

    def note(reason: str, _: str) -> None:
        told.append(reason)
        on_note()

    def say(host: Host) -> bytes:
        link = Link(host, QUICK, notify=note)
        link.open()
        try:
            return b"".join(Command(link, "exec echo in").lines(lambda: QUICK.silence_s))
        finally:
            link.close()

    with ThreadPoolExecutor(len(hosts)) as threads:
        return set(threads.map(say, hosts)), told


def at_most(logins: int) -> str:
    """sshd drops every login while so many others are unauthenticated."""
    return f"MaxStartups {logins}:100:{logins}"


def test_logins_queue_so_that_none_is_dropped(tmp_path: Path) -> None:
    """sshd's default is ten; this one leaves room for logins that have ended on one side only."""
    with sshd(tmp_path, at_most(2 * MAX_HANDSHAKES + 2)) as server:
        said, told = said_and_told([server.host] * MANY)

    assert said == {b"in"}
    assert told == []


@contextmanager
def full(server: Sshd) -> Iterator[Callable[[], object]]:
    """All places for logins are taken, until the function is called.

    Without that a busy machine may begin the logins of a test so far apart that sshd never has too many at once.
    """
    with ExitStack() as taken:
        for _ in range(FEW):  # sshd takes them in this order, before any login that comes later
            taken.enter_context(socket.create_connection((server.host.address, server.port)))
        yield taken.close


def test_a_dropped_login_is_tried_again_and_reported(tmp_path: Path) -> None:
    with sshd(tmp_path, at_most(FEW)) as server, full(server) as give_way:
        said, told = said_and_told([server.host] * 6, give_way)

    assert said == {b"in"}
    assert set(told) in ({"no_banner"}, {"handshake_failed"}, {"no_banner", "handshake_failed"})


def test_a_dropped_proxy_command_is_tried_again_and_reported(tmp_path: Path) -> None:
    """fleet does not know at which sshd it logs in, and queues no login."""
    folder = tmp_path / "last"
    folder.mkdir()
    with sshd(tmp_path, at_most(FEW)) as server, full(server) as give_way:
        options = f"-F none -o UserKnownHostsFile={server.known_hosts} -i {server.host.key_files[0]}"
        config = tmp_path / "config"
        config.write_text(f"Host *\n  ProxyCommand ssh {options} -W %h:%p -p {server.port} root@127.0.0.1\n")
        with sshd(folder) as last:
            said, told = said_and_told([replace(last.host, ssh_config=str(config))] * 6, give_way)

    assert said == {b"in"}
    assert set(told) == {"proxy_turned_away"}
