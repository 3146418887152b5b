"""Hosts behind bastions: one login at each, a reconnect to lost ones, and errors that name the failing hop."""

import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from paramiko.common import MSG_CHANNEL_CLOSE, MSG_CHANNEL_DATA
from paramiko.message import Message

from fleet.host import Host
from fleet.ssh.link_errors import LinkError
from fleet.ssh.remote.command import Command
from fleet.ssh.transport import bastion, connection
from fleet.ssh.transport.bastion import close_bastions
from fleet.ssh.transport.connection import Link
from fleet.task import PLAIN, Connecting, Deadlines
from tests.support.private_nginx import wait_until
from tests.support.ssh.server import Proxy, Sshd, deaf, free_port, make_key, public, sshd
from tests.support.ssh.stubs import QUICK

MANY = 12


@dataclass
class Ways:
    """A bastion, a second one behind it, the host behind both, and the notes about the way there."""

    outer: Sshd
    inner: Sshd
    last: Sshd
    folder: Path
    told: list[str] = field(default_factory=list)

    def config(self, jumps: str = "outer", **ports: int) -> Connecting:
        """An ssh_config that knows the bastions; `outer=port` reaches one elsewhere."""
        known = self.folder / "known_hosts"
        lines = [f"Host last\n  HostName 127.0.0.1\n  ProxyJump {jumps}\n" if jumps else ""]
        keys = []
        for name, server in (("outer", self.outer), ("inner", self.inner)):
            port = ports.get(name, server.port)
            key = server.host.key_files[0]
            lines.append(f"Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  User root\n  IdentityFile {key}\n")
            keys.append(f"[127.0.0.1]:{port} {server.public_key}\n")
        known.write_text("".join(keys))
        lines.append(f"Host *\n  IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile {known}\n")
        path = self.folder / "config"
        path.write_text("\n".join(lines))
        return replace(PLAIN, ssh_config=str(path))

    @property
    def told_of_bastions(self) -> list[str]:
        """Without the notes of dropped logins and failed reconnects."""
        return [word for word in self.told if word not in ("no_banner", "bastion_away")]

    @property
    def host(self) -> Host:
        return replace(self.last.host, address="last", ssh_config=None)

    def link(self, connecting: Connecting, deadlines: Deadlines = QUICK, host: Host | None = None) -> Link:
        return Link(host or self.host, deadlines, connecting, notify=lambda reason, _: self.told.append(reason))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sshd, Sshd, Sshd]]:
    folders = [tmp_path_factory.mktemp(name) for name in ("outer", "inner", "last")]
    with sshd(folders[0]) as outer, sshd(folders[1]) as inner, sshd(folders[2]) as last:
        yield outer, inner, last


@pytest.fixture
def ways(servers: tuple[Sshd, Sshd, Sshd], tmp_path: Path) -> Iterator[Ways]:
    for server in servers:
        server.know("[127.0.0.1]:* {key}")
    yield Ways(*servers, tmp_path)
    close_bastions()


def says(link: Link, line: str = "exec echo in") -> bytes:
    """The one line that the command printed on the host behind the link."""
    link.open()
    try:
        (found,) = Command(link, line).lines(lambda: QUICK.silence_s)
        return found
    finally:
        link.close()


def logins(server: Sshd) -> int:
    return len(re.findall("Accepted publickey", (server.folder / "sshd.log").read_text(errors="replace")))


def sessions(server: Sshd) -> list[int]:
    """The sshd processes that serve a connection to this server."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    top = [int(pid) for pid, _, args in rows if f"{server.folder}/sshd_config" in args]
    return [int(pid) for pid, parent, args in rows if int(parent) in top and "sshd" in args]


@contextmanager
def lost_while(ways: Ways, count: int) -> Iterator[tuple["Switch", list[Future[bytes]]]]:
    """The bastion has died under an open connection, and so many visits wait for it; one reconnect has failed already."""
    switch = Switch(ways.outer.port)
    connecting = ways.config(outer=switch.port)
    assert says(ways.link(connecting)) == b"in"
    switch.target = free_port()
    for pid in sessions(ways.outer):
        os.kill(pid, signal.SIGKILL)
    try:
        with ThreadPoolExecutor(count) as threads:
            waiting = [threads.submit(says, ways.link(connecting)) for _ in range(count)]
            wait_until(lambda: switch.refused > 0, "a reconnect failed")
            yield switch, waiting
    finally:
        switch.close()


def test_a_host_is_reached_through_a_chain_of_bastions(ways: Ways) -> None:
    connecting = ways.config("outer,inner")
    before = [logins(server) for server in (ways.outer, ways.inner, ways.last)]

    assert says(ways.link(connecting)) == b"in"
    assert says(ways.link(connecting)) == b"in"

    after = [logins(server) for server in (ways.outer, ways.inner, ways.last)]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 2]


def test_many_hosts_at_once_share_one_login_at_the_bastion(ways: Ways) -> None:
    connecting = ways.config()
    before = logins(ways.outer)

    with ThreadPoolExecutor(MANY) as threads:
        answers = list(threads.map(lambda _: says(ways.link(connecting)), range(MANY)))

    assert answers == [b"in"] * MANY
    assert logins(ways.outer) - before == 1
    assert ways.told_of_bastions == []


def test_a_lost_bastion_is_reconnected_and_reported_once(ways: Ways) -> None:
    connecting = ways.config()
    assert says(ways.link(connecting)) == b"in"
    for pid in sessions(ways.outer):
        os.kill(pid, signal.SIGKILL)

    with ThreadPoolExecutor(MANY) as threads:
        answers = list(threads.map(lambda _: says(ways.link(connecting)), range(MANY)))

    assert answers == [b"in"] * MANY
    assert ways.told_of_bastions == ["bastion_lost", "bastion_back"]


def test_a_frozen_bastion_is_detected_and_reconnected(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection looks alive for ever. fleet sends a keepalive when a host behind it can't be reached."""
    with Proxy(ways.outer.port) as frozen, Proxy(ways.outer.port) as sound:
        switch = Switch(frozen.port)
        connecting = ways.config(outer=switch.port)
        assert says(ways.link(connecting)) == b"in"
        frozen.freeze()
        switch.target = sound.port
        with monkeypatch.context() as patched:
            patched.setattr(Link, "alive_timeout_s", 1.0)

            assert says(ways.link(connecting, replace(QUICK, connect_s=3.0))) == b"in"

        close_bastions()
        switch.close()
    assert ways.told_of_bastions == ["bastion_lost", "bastion_back"]


def test_a_bastion_that_comes_back_is_waited_for(ways: Ways) -> None:
    with lost_while(ways, 2) as (switch, waiting):
        switch.target = ways.outer.port
        answers = [each.result() for each in waiting]

    assert answers == [b"in", b"in"]
    assert ways.told_of_bastions == ["bastion_lost", "bastion_back"]


def test_an_unreachable_bastion_is_reported_as_the_bastion(ways: Ways) -> None:
    connecting = ways.config(outer=free_port())

    failure = rejection(ways.link(connecting))

    assert failure.reason == "refused"
    assert "The bastion 127.0.0.1 port" in failure.message


def test_each_failed_reconnect_is_reported(ways: Ways) -> None:
    switch = Switch(ways.outer.port)
    connecting = ways.config(outer=switch.port)
    assert says(ways.link(connecting)) == b"in"
    switch.close()

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(says, ways.link(connecting))
        wait_until(lambda: ways.told.count("bastion_away") == 2, "two reconnects failed")
        close_bastions()

    assert isinstance(waiting.exception(), LinkError)


def test_the_hosts_behind_a_silent_bastion_share_attempts(ways: Ways) -> None:
    """A host that needs the bastion after an attempt has failed begins a new one, so that there may be more than one."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0)
        deadlines = replace(QUICK, banner_s=2.0)
        connecting = ways.config(outer=silent.getsockname()[1])

        with ThreadPoolExecutor(MANY) as threads:
            failures = list(threads.map(lambda _: rejection(ways.link(connecting, deadlines)), range(MANY)))

        dials = 0
        with suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                dials += 1
    assert [failure.reason for failure in failures] == ["no_banner"] * MANY
    assert 1 <= dials < MANY


def test_a_bastion_that_drops_logins_is_not_tried_again_by_each_host(
    ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "RETRY_S", 0.01)
    switch = Switch(free_port())
    failure = rejection(ways.link(ways.config(outer=switch.port)))

    switch.close()
    assert failure.reason in ("no_banner", "handshake_failed")
    assert "The bastion" in failure.message
    assert switch.refused == connection.MAX_LOGINS


def test_nothing_is_sent_to_a_host_after_its_channel_was_closed(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bastion may have given the channel's number to another host by then."""
    link = ways.link(ways.config())
    link.open()
    passage: Any = link.transport.sock
    bastion_transport = passage.transport
    sent: list[int] = []
    is_sending = threading.Event()
    send = bastion_transport._send_user_message

    def slowly(message: Message) -> None:
        kind = message.asbytes()[0]
        if kind == MSG_CHANNEL_DATA:
            is_sending.set()
            closing.join(0.3)
        sent.append(kind)
        send(message)

    def close() -> None:
        is_sending.wait()
        passage.close()

    closing = threading.Thread(target=close)
    monkeypatch.setattr(bastion_transport, "_send_user_message", slowly)
    closing.start()
    passage.send(b"the last word")
    closing.join()
    link.close()

    ours = [kind for kind in sent if kind in (MSG_CHANNEL_DATA, MSG_CHANNEL_CLOSE)]
    assert ours.index(MSG_CHANNEL_CLOSE) == len(ours) - 1 > 0


def test_a_bastion_that_refuses_the_login_is_tried_once_for_all_hosts_behind_it(
    ways: Ways, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = Switch(ways.outer.port)
    connecting = ways.config(outer=switch.port)
    config = Path(connecting.ssh_config or "")
    config.write_text(
        config.read_text().replace(str(ways.outer.host.key_files[0]), str(make_key(tmp_path / "stranger")))
    )

    failures = [rejection(ways.link(connecting)) for _ in range(3)]
    asked = switch.passed
    monkeypatch.setattr(bastion, "REFUSED_S", 0.0)
    later = rejection(ways.link(connecting))

    switch.close()
    assert [failure.reason for failure in (*failures, later)] == ["auth_failed"] * 4
    assert (asked, switch.passed) == (1, 2), "it is tried again after a while: it may accept the login by then"


def test_a_bastion_that_keeps_disconnecting_is_given_up(ways: Ways) -> None:
    before = logins(ways.outer)
    switch = Switch(ways.outer.port)
    switch.passes_on = lambda: logins(ways.outer) - before < switch.passed
    failure = rejection(ways.link(ways.config(outer=switch.port)))

    switch.close()
    assert failure.reason == "jump_refused"
    assert "closed the connection" in failure.message
    assert logins(ways.outer) - before == bastion.MAX_LOSSES


def test_each_hop_has_the_connect_timeout_that_ssh_config_gives_it(ways: Ways) -> None:
    with deaf() as port:
        connecting = ways.config(outer=port)
        path = Path(str(connecting.ssh_config))
        path.write_text(f"Host outer\n  ConnectTimeout 1\nHost last\n  ConnectTimeout 20\n{path.read_text()}")

        failure = rejection(ways.link(connecting))

    assert failure.reason == "timed_out"
    assert "within 1 s" in failure.message


def rejection(link: Link) -> LinkError:
    with pytest.raises(LinkError) as caught:
        link.open()
    link.close()
    assert caught.value.remedy
    return caught.value


def test_the_bastion_s_host_key_is_checked_as_strictly(ways: Ways, tmp_path: Path) -> None:
    connecting = ways.config()
    other = public(make_key(tmp_path / "other"))
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{ways.outer.port} {other}\n")
    before = logins(ways.outer)

    failure = rejection(ways.link(connecting))

    assert failure.reason == "host_key_changed"
    assert "The bastion" in failure.message
    assert logins(ways.outer) == before


def test_a_refusing_host_behind_a_bastion_is_reported_as_the_host(ways: Ways) -> None:
    failure = rejection(ways.link(ways.config(), host=replace(ways.host, port=free_port())))

    assert failure.reason == "unreachable_from_bastion"
    assert failure.message.startswith("The bastion 127.0.0.1 port")
    assert "can't connect to 127.0.0.1 port" in failure.message


def test_a_bastion_that_forwards_nothing_is_reported(ways: Ways, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    with sshd(folder, "AllowTcpForwarding no") as closed:
        found = Ways(closed, ways.inner, ways.last, tmp_path)
        failure = rejection(found.link(found.config()))
        close_bastions()

    assert failure.reason == "jump_refused"
    assert "AllowTcpForwarding" in failure.remedy


def test_a_bastion_without_sessions_still_forwards(ways: Ways, tmp_path: Path) -> None:
    """A bastion that allows no command (MaxSessions 0) still forwards connections."""
    folder = tmp_path / "gate"
    folder.mkdir()
    with sshd(folder, "MaxSessions 0") as gate:
        found = Ways(gate, ways.inner, ways.last, tmp_path)
        assert says(found.link(found.config())) == b"in"
        close_bastions()


def test_cutting_off_a_run_ends_the_wait_for_a_bastion(ways: Ways) -> None:
    with lost_while(ways, 1) as (_, (waiting,)):
        close_bastions()

        error = waiting.exception()

    assert isinstance(error, LinkError)
    assert error.reason == "cut"


def test_a_proxy_command_connects(ways: Ways) -> None:
    connecting = ways.config("")
    path = Path(str(connecting.ssh_config))
    line = f"ssh -F {path} -W %h:%p outer"
    path.write_text(f"Host last\n  HostName 127.0.0.1\n  ProxyCommand {line}\n{path.read_text()}")

    link = ways.link(connecting)
    assert says(link) == b"in"

    processes = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True).stdout
    assert f"{path} -W" not in processes


def test_a_proxy_command_that_fails_is_named(ways: Ways) -> None:
    connecting = ways.config("")
    path = Path(str(connecting.ssh_config))
    path.write_text(f"Host last\n  ProxyCommand echo no way >&2; false\n{path.read_text()}")

    failure = rejection(ways.link(connecting))

    assert failure.reason == "proxy_failed"
    assert "no way" in failure.message
    assert "echo no way" in failure.remedy


def test_a_silent_proxy_command_is_reported_as_that(ways: Ways) -> None:
    connecting = ways.config("")
    path = Path(str(connecting.ssh_config))
    path.write_text(f"Host last\n  ProxyCommand sleep 60\n{path.read_text()}")

    failure = rejection(ways.link(connecting, replace(QUICK, banner_s=0.5)))

    assert failure.reason == "no_banner"
    assert failure.message.startswith("The ProxyCommand for last port")
    assert failure.remedy.endswith(" -c 'exec sleep 60'`")


def test_an_old_sshd_behind_a_proxy_command_is_reported(ways: Ways, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    with sshd(folder, "KexAlgorithms diffie-hellman-group14-sha1") as old:
        found = Ways(ways.outer, ways.inner, old, tmp_path)
        connecting = found.config("")
        path = Path(str(connecting.ssh_config))
        line = f"ssh -F {path} -W 127.0.0.1:{old.port} outer"
        path.write_text(f"Host last\n  ProxyCommand {line}\n{path.read_text()}")

        assert rejection(found.link(connecting)).reason == "incompatible"


class Switch:
    """A port that forwards connections to `target`, which may change. It counts the forwarded and the refused ones."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.passes_on: Callable[[], bool] = lambda: True
        self.passed = self.refused = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            with_shutdown(each)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                self.refused += 1
                near.close()
                continue
            self.passed += 1
            self._sockets += [near, far]
            for source, sink, passes_on in ((near, far, lambda: self.passes_on()), (far, near, lambda: True)):
                threading.Thread(target=self._pump, args=(source, sink, passes_on), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, passes_on: Callable[[], bool]) -> None:
        """Bytes go from one to the other until either ends."""
        with suppress(OSError):
            while (data := source.recv(65536)) and passes_on():
                sink.sendall(data)
        for each in (source, sink):
            with_shutdown(each)


def with_shutdown(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
