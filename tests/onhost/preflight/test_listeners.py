"""The held sockets compared with those that the new release is seen to open."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from fleet.onhost.preflight.listeners import broken_quic, compared_listeners, held
from fleet.onhost.protocol import Finding
from fleet.onhost.rehearsal.evidence import Defect, Opened
from fleet.onhost.system.machine import Machine
from fleet.onhost.system.sockets import Listener
from tests.support.onhost.recorded import RecordedMachine, a_master, a_subject
from tests.support.onhost.shown import UP, failed, files, shown

Addresses = list[tuple[str, str]]


def judged(has: Addresses, opens: Addresses, host: RecordedMachine | None = None) -> list[Finding]:
    """`has` are the sockets that the master holds, `opens` those of the new release in the rehearsal."""
    host = host or RecordedMachine()
    host.all_listeners = tuple(Listener(n, kind, address) for n, (kind, address) in enumerate(has, 1))
    opened = tuple(Opened(kind, address, opens.count((kind, address))) for kind, address in sorted(set(opens)))
    subject = a_subject(host, a_master(listeners=tuple(range(1, len(has) + 1))))
    return compared_listeners(subject, shown(UP._replace(listeners=opened)))


def words(found: list[Finding]) -> list[str]:
    return [one.reason for one in found]


HTTP = ("tcp", "0.0.0.0:80")


@pytest.mark.parametrize(
    "has",
    [
        [HTTP],
        [HTTP, ("tcp6", "[::]:80")],
        [("unix", "/run/n.sock")],
        [("udp", "0.0.0.0:53"), ("tcp", "0.0.0.0:53")],
        [HTTP, HTTP],
        [("tcp", "198.51.100.7:8443")],
        [],
    ],
)
def test_the_same_sockets_agree_wherever_their_addresses_are_now(has: Addresses) -> None:
    gone = RecordedMachine(busy={("tcp", "198.51.100.7", 8443): "Cannot assign requested address"})

    assert judged(has, has, gone) == []


def test_a_listener_that_the_new_release_does_not_open_is_refused_by_name() -> None:
    (found,) = judged([HTTP, ("tcp", "0.0.0.0:81"), ("unix", "/run/n.sock"), ("udp", "0.0.0.0:53")], [HTTP])

    assert found.reason == "listener_missing"
    assert "0.0.0.0:53 udp, 0.0.0.0:81, unix:/run/n.sock" in found.message


def test_a_listener_that_comes_new_is_a_warning_when_it_can_be_had() -> None:
    assert words(judged([HTTP], [HTTP, ("tcp6", "[::]:81")])) == ["listener_added"]


def test_a_listener_that_comes_new_and_is_taken_is_refused_with_the_cause() -> None:
    busy = RecordedMachine(busy={("tcp", "0.0.0.0", 81): "Address in use"})

    (found,) = judged([HTTP], [HTTP, ("tcp", "0.0.0.0:81")], busy)

    assert found.reason == "listener_busy"
    assert "can't open 0.0.0.0:81: Address in use" in found.message


def test_a_unix_socket_at_the_path_of_a_new_one_is_refused() -> None:
    host = RecordedMachine(stats={"/run/stale.sock": {}})

    assert words(judged([HTTP], [HTTP, ("unix", "/run/stale.sock")], host)) == ["listener_busy"]
    assert words(judged([HTTP], [HTTP, ("unix", "/run/fresh.sock")], host)) == ["listener_added"]


def test_fewer_sockets_of_one_address_than_now_are_refused() -> None:
    (found,) = judged([HTTP] * 4, [HTTP] * 2)

    assert found.reason == "fewer_workers"
    assert "0.0.0.0:80 2 times instead of 4 times" in found.message
    assert judged([HTTP] * 2, [HTTP] * 4) == []


def test_a_release_that_did_not_come_up_opens_nothing_that_could_be_compared() -> None:
    assert compared_listeners(a_subject(RecordedMachine()), shown(failed(Defect.ENDED))) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("server { listen 443 ssl; listen 443 quic reuseport; }", "443"),
        ("server {\n  listen [::]:443\n    quic;\n}", "[::]:443"),
        ("server { listen 443 http3 reuseport; } server { listen 443 quic; }", "443"),
    ],
)
def test_http_3_without_quic_bpf_is_refused(text: str, place: str) -> None:
    (found,) = broken_quic(files(text))

    assert found.reason == "quic"
    assert f"HTTP/3 is on ({place}) without" in found.message
    assert broken_quic(files("quic_bpf on;\n" + text)) == []


@pytest.mark.parametrize(
    "text",
    ["server { listen 443 ssl; }", "# listen 443 quic;", "server { listen 443; server_name quic; }", "listen quic;"],
)
def test_what_only_looks_like_http_3_is_none(text: str) -> None:
    assert broken_quic(files(text)) == []
    assert broken_quic(None) == []


def test_the_kernel_tells_what_a_process_listens_on_and_whether_more_can_be_had() -> None:
    machine, pid = Machine(), os.getpid()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]

        mine = held(machine, a_master(pid=pid, listeners=tuple(machine.socket_inodes(pid))))

        assert mine["tcp", f"127.0.0.1:{port}"] == 1
        assert machine.bind_error("tcp", "127.0.0.1", port, pid)
    assert machine.bind_error("tcp", "127.0.0.1", 0, pid) is None


def test_a_port_is_tried_in_the_network_of_the_master(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    script = f"ip link set lo up; echo >{ready}; exec cat"
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", 0))
        ours.listen()
        port = ours.getsockname()[1]
        with subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdin=subprocess.PIPE) as other:
            ready.read_text()
            try:
                assert Machine().bind_error("tcp", "127.0.0.1", port, other.pid) is None
                assert Machine().bind_error("tcp", "127.0.0.1", port, os.getpid()) == "Address already in use"
            finally:
                other.communicate()
