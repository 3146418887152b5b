"""Every way in which a connection can fail has its own reason, and a message with a remedy."""

import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import paramiko
import pytest

from fleet.host import Host
from fleet.ssh.link_errors import LinkError
from fleet.ssh.openssh_config import resolve
from fleet.ssh.remote.command import Command
from fleet.ssh.transport import dial as dial_module
from fleet.ssh.transport.connection import Link
from fleet.ssh.transport.dial import dial
from fleet.task import PLAIN, Deadlines
from tests.support.ssh.clocks import HandClock
from tests.support.ssh.server import Proxy, Sshd, deaf, free_port, hide, sshd
from tests.support.ssh.stubs import QUICK

HASTY = replace(QUICK, channel_s=0.5)


def output(host: Host, line: str) -> list[bytes]:
    """What the command printed on the host. Raises `LinkError`."""
    link = Link(host, QUICK)
    try:
        link.open()
        return list(Command(link, line).lines(lambda: QUICK.silence_s))
    finally:
        link.close()


def rejection(host: Host, deadlines: Deadlines = QUICK) -> LinkError:
    link = Link(host, deadlines)
    with pytest.raises(LinkError) as caught:
        link.open()
    link.close()
    assert caught.value.remedy
    return caught.value


def test_a_command_runs_as_the_user_of_the_inventory(server: Sshd) -> None:
    assert output(server.host, "exec id -un") == [b"root"]


def test_a_private_fabric_file_changes_nothing(server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".fabric.yaml").write_text("user: nobody\nport: 1\ngateway: nobody@127.0.0.1\nconnect_kwargs: {a: 1}\n")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host *\n  User nobody\n  Port 1\n  ProxyCommand false\n")
    monkeypatch.setenv("HOME", str(tmp_path))

    assert output(server.host, "exec id -un") == [b"root"]


def test_a_port_without_a_listener_refuses(server: Sshd) -> None:
    assert rejection(replace(server.host, port=free_port())).reason == "refused"


def test_an_address_that_is_no_name_is_not_found(server: Sshd) -> None:
    assert rejection(replace(server.host, address="a..b")).reason == "name_not_found"


LOOKUP = """
import socket, threading
from fleet.ssh.transport import dial
from fleet.ssh.openssh_config import Settings
from fleet.ssh.link_errors import LinkError

deaf = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
deaf.bind(("127.0.0.53", 53))
dial.LOOKUP_S = 1.0
try:
    dial.dial(Settings("web-01.example.net", 22, "root", "web-01", ()), 1.0)
except LinkError as failure:
    is_looking = "fleet-lookup" in [thread.name for thread in threading.enumerate()]
    print(failure.reason, "while the resolver tries" if is_looking else "after the resolver", failure.message)
"""


def test_name_servers_that_do_not_answer_time_out(tmp_path: Path) -> None:
    """The resolver itself would try for 30 s, five times, and as often for each search domain."""
    resolver = "nameserver 127.0.0.53\nsearch a.example\noptions timeout:30 attempts:5\n"
    files = {"resolv.conf": resolver, "nsswitch.conf": "hosts: files dns\n"}
    within = hide(tmp_path, **files)
    own_network = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")

    done = subprocess.run(
        [*own_network, *within, sys.executable, "-c", LOOKUP], capture_output=True, text=True, timeout=60
    )

    assert done.stdout.startswith("timed_out while the resolver tries"), done
    assert "could not be looked up within 1 s" in done.stdout


def test_a_slow_lookup_takes_nothing_from_the_time_to_connect(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with OpenSSH's ConnectTimeout: if the first name server is dead, the resolver asks the second after 5 s."""
    clock = HandClock()
    monkeypatch.setattr(dial_module, "time", clock)

    def slow(*words: Any) -> Any:
        clock.sleep(QUICK.connect_s)
        return socket.getaddrinfo(*words)

    with dial(resolve(server.host, PLAIN), QUICK.connect_s, slow) as found:
        assert found.getpeername() == ("127.0.0.1", server.port)


def test_a_full_backlog_times_out(server: Sshd) -> None:
    """A listener that never accepts drops further connections once its queue is full."""
    with deaf() as port:
        failure = rejection(replace(server.host, port=port), replace(QUICK, connect_s=0.5))

    assert failure.reason == "timed_out"
    assert failure.message == f"127.0.0.1 port {port} did not answer within 0.5 s."


def test_a_name_that_times_out_is_reported_with_its_addresses(server: Sshd) -> None:
    def first_only(*words: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", words[1]))]

    with deaf() as port, pytest.raises(LinkError) as caught:
        dial(resolve(replace(server.host, address="localhost", port=port), PLAIN), 0.5, first_only)

    assert caught.value.message == f"localhost port {port} did not answer within 0.5 s (tried 127.0.0.1)."


def test_the_next_address_is_tried_when_the_first_one_refuses(server: Sshd) -> None:
    """`localhost` is ::1 and 127.0.0.1; the server listens on the second only."""
    server.know("[localhost]:* {key}")

    assert output(replace(server.host, address="localhost"), "exec echo in") == [b"in"]


def test_the_next_address_is_tried_when_the_first_one_times_out(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv6 that does not answer: the listener's queue is full, and drops connections.

    On a clock that stands still the second address has the whole time, however late the first one's deadline is noticed.
    """
    monkeypatch.setattr(dial_module, "time", HandClock())
    with deaf("::1", server.port):

        def both(*_: object) -> list[object]:
            """The lookup result for a host with both kinds of address."""
            found = socket.getaddrinfo("::1", server.port, type=socket.SOCK_STREAM)
            return [*found, *socket.getaddrinfo("127.0.0.1", server.port, type=socket.SOCK_STREAM)]

        began_at = time.monotonic()
        with dial(resolve(server.host, PLAIN), 2.0, both) as found:
            assert found.getpeername() == ("127.0.0.1", server.port)

        assert time.monotonic() - began_at >= 1.0, "the first address was tried for its share of the time"


def test_a_peer_that_says_nothing_has_no_banner(server: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = replace(server.host, port=silent.getsockname()[1])
        assert rejection(host, replace(QUICK, banner_s=0.5)).reason == "no_banner"


def test_a_peer_that_is_no_ssh_server_has_no_banner(server: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            near, _ = listener.accept()
            near.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            near.close()

        thread = threading.Thread(target=answer)
        thread.start()
        failure = rejection(replace(server.host, port=listener.getsockname()[1]), replace(QUICK, banner_s=1.0))
        thread.join()

    assert failure.reason == "no_banner"


@pytest.mark.parametrize(
    "setting", ["KexAlgorithms diffie-hellman-group14-sha1", "HostKeyAlgorithms ssh-rsa"], ids=["kex", "host key"]
)
def test_a_server_with_only_sha1_is_too_old(tmp_path: Path, setting: str) -> None:
    with sshd(tmp_path, setting, host_keys=("ed25519", "rsa")) as old:
        assert rejection(old.host).reason == "incompatible"


def test_ignored_options_of_ssh_config_do_no_harm(server: Sshd, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("""Host *
  ForwardAgent /nowhere/agent
  ControlMaster auto
  ControlPath /nowhere/%C
  ControlPersist 10m # for an hour
  KexAlgorithms +diffie-hellman-group14-sha1
  Ciphers aes128-cbc
  AddKeysToAgent yes
  CheckHostIP yes
  KnownHostsCommand /bin/false
  PKCS11Provider /nowhere/pkcs11.so
  LocalForward 127.0.0.1:1 127.0.0.1:1
  RemoteForward 1 127.0.0.1:1
  DynamicForward 127.0.0.1:1
  GatewayPorts yes
  Tunnel yes
""")

    assert output(replace(server.host, ssh_config=str(tmp_path / "config")), "exec id -un") == [b"root"]


CONNECT = """
from fleet.host import Host
from fleet.ssh.transport import dial as dial_module
from fleet.ssh.transport.connection import Link
from fleet.ssh.link_errors import LinkError
from fleet.task import Deadlines
try:
    Link(Host("web-01", "127.0.0.1", {port}, ssh_config="none"), Deadlines(banner_s=0.1)).open()
except LinkError as failure:
    print(failure.reason)
"""


def test_no_traceback_of_a_library_reaches_the_screen() -> None:
    """paramiko logs one for a peer that is no SSH server, and Python's logging prints it without a handler."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code = CONNECT.format(port=silent.getsockname()[1])
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert (ran.stdout, ran.stderr) == ("no_banner\n", "")


def test_a_server_without_sessions_refuses_the_channel(tmp_path: Path) -> None:
    with sshd(tmp_path, "MaxSessions 0") as stingy, pytest.raises(LinkError) as caught:
        output(stingy.host, "exec true")

    assert caught.value.reason == "channel_refused"


def test_a_peer_that_freezes_after_the_login_does_not_block_fleet(server: Sshd) -> None:
    with Proxy(server.port) as proxy:
        server.know("[127.0.0.1]:* {key}")
        link = Link(proxy.before(server.host), HASTY)
        link.open()
        proxy.freeze()

        with pytest.raises(LinkError) as caught:
            Command(link, "exec true")

        link.close()
    assert caught.value.reason == "channel_timed_out"


def test_a_socket_that_another_thread_has_closed_is_at_its_end(server: Sshd) -> None:
    """As for a reader that waits at that moment. paramiko's thread reads only every tenth of a second."""
    found = dial(resolve(server.host, PLAIN), 5.0)

    found.close()

    assert found.recv(1) == b""


def test_a_peer_that_freezes_before_it_answers_a_channel_request_is_cut_off(server: Sshd) -> None:
    """paramiko waits for that answer without a deadline: only closing the transport ends the wait."""
    with Proxy(server.port) as proxy:
        server.know("[127.0.0.1]:* {key}")
        link = Link(proxy.before(server.host), QUICK)
        link.open()
        channel = link.transport.open_session()
        proxy.freeze()

        with link.watchdog(0.2) as watch, pytest.raises((paramiko.SSHException, EOFError)):
            channel.exec_command("true")

        link.close()
    assert watch.fired


def test_a_login_that_is_cut_off_by_the_operator_ends_at_once(server: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        link = Link(replace(server.host, port=silent.getsockname()[1]), replace(QUICK, banner_s=600))
        caught: list[LinkError] = []

        def log_in() -> None:
            with pytest.raises(LinkError) as failure:
                link.open()
            caught.append(failure.value)

        thread = threading.Thread(target=log_in)
        thread.start()
        near, _ = silent.accept()
        near.recv(1)
        link.close()
        thread.join(60)
        near.close()

    assert [failure.reason for failure in caught] == ["no_banner"]
