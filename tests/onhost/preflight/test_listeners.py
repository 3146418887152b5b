import os
import socket

import pytest

from fleet.onhost.nginx.command_line import CommandLine
from fleet.onhost.nginx.configuration import Configuration, read_configuration
from fleet.onhost.preflight.listeners import Address, compare, held, wanted, workers_wanted
from fleet.onhost.protocol import Finding
from fleet.onhost.system.machine import Machine
from fleet.onhost.system.sockets import Listener
from tests.support.onhost.recorded import RecordedMachine, a_master, a_subject

Held = list[tuple[str, str]]


def config(text: str) -> Configuration:
    found = read_configuration(f"# configuration file /n.conf:\n{text}", CommandLine("/n"))
    assert found is not None
    return found


def servers(*listens: str, before: str = "worker_processes 2;") -> str:
    return before + "http { " + "".join(f"server {{ listen {one}; }} " for one in listens) + "}"


def judged(has: Held, text: str, machine: RecordedMachine | None = None) -> list[Finding]:
    host = machine or RecordedMachine()
    host.all_listeners = tuple(Listener(n, kind, address) for n, (kind, address) in enumerate(has, 1))
    return compare(a_subject(host, a_master(listeners=tuple(range(1, len(has) + 1)))), config(text))


def words(found: list[Finding]) -> list[str]:
    return [one.reason for one in found]


SAME = [
    ([("tcp", "0.0.0.0:80")], servers("80")),
    ([("tcp", "0.0.0.0:80")], "http { server { server_name a; } }"),
    ([("tcp", "0.0.0.0:80"), ("tcp6", "[::]:80")], servers("80", "[::]:80")),
    ([("tcp", "0.0.0.0:8080")], servers("*:8080 default_server", "127.0.0.1:8080")),
    ([("tcp", "127.0.0.1:80")], servers("127.0.0.1")),
    ([("tcp6", "[::1]:80")], servers("[::1]")),
    ([("tcp6", "[2001:db8::1]:443")], servers("[2001:DB8:0:0::1]:443 ssl")),
    ([("tcp", "0.0.0.0:9000"), ("tcp", "0.0.0.0:9001")], servers("9000-9001")),
    ([("unix", "/run/n.sock")], servers("unix:/run/n.sock")),
    ([("udp", "0.0.0.0:53"), ("tcp", "0.0.0.0:53")], "stream { server { listen 53 udp; } server { listen 53; } }"),
    ([("tcp", "0.0.0.0:80"), ("tcp", "0.0.0.0:80")], servers("80 reuseport")),
    ([], "events {}"),
]


@pytest.mark.parametrize(("has", "text"), SAME)
def test_held_sockets_and_those_that_would_be_opened_agree(has: Held, text: str) -> None:
    assert judged(has, text) == []


def test_a_listener_that_the_new_binary_would_not_open_is_refused_by_name() -> None:
    (found,) = judged([("tcp", "0.0.0.0:80"), ("tcp", "0.0.0.0:81"), ("unix", "/run/n.sock")], servers("80"))

    assert found.reason == "listener_missing"
    assert "0.0.0.0:81, unix:/run/n.sock" in found.message


def test_an_address_that_a_wildcard_takes_over_would_be_closed() -> None:
    found = judged(
        [("tcp", "127.0.0.1:80")],
        servers("80", "127.0.0.1:80"),
        RecordedMachine(busy={("tcp", "0.0.0.0", 80): "in use"}),
    )

    assert words(found) == ["listener_missing", "listener_busy"]


def test_an_address_with_an_option_of_its_own_keeps_its_socket_beside_a_wildcard() -> None:
    assert judged([("tcp", "0.0.0.0:80"), ("tcp", "127.0.0.1:80")], servers("80", "127.0.0.1:80 backlog=9")) == []


def test_a_listener_that_comes_new_is_a_warning_when_it_can_be_had() -> None:
    assert words(judged([("tcp", "0.0.0.0:80")], servers("80", "81"))) == ["listener_added"]


def test_a_listener_that_comes_new_and_is_taken_is_refused_with_the_cause() -> None:
    (found,) = judged(
        [("tcp", "0.0.0.0:80")], servers("80", "81"), RecordedMachine(busy={("tcp", "0.0.0.0", 81): "Address in use"})
    )

    assert found.reason == "listener_busy"
    assert "can't open 0.0.0.0:81: Address in use" in found.message


def test_a_unix_socket_at_the_path_of_a_new_one_is_refused() -> None:
    host = RecordedMachine(stats={"/run/stale.sock": {}})

    assert words(judged([("tcp", "0.0.0.0:80")], servers("80", "unix:/run/stale.sock"), host)) == ["listener_busy"]


def test_nothing_is_bound_on_trial_in_another_network_namespace() -> None:
    host = RecordedMachine(
        busy={("tcp", "0.0.0.0", 81): "in use"},
        links={"/proc/812/ns/net": "/proc/812/ns/net:[7]", "/proc/self/ns/net": "/proc/9/ns/net:[8]"},
    )

    assert words(judged([("tcp", "0.0.0.0:80")], servers("80", "81"), host)) == ["listener_added"]


def test_a_name_may_stand_for_any_of_its_addresses() -> None:
    host = RecordedMachine(addresses={"localhost": ("127.0.0.1", "::1")})

    assert judged([("tcp", "127.0.0.1:80")], servers("localhost:80"), host) == []
    assert judged([("tcp", "127.0.0.1:80"), ("tcp6", "[::1]:80")], servers("localhost:80"), host) == []
    assert words(judged([("tcp", "0.0.0.0:81")], servers("81", "localhost:80"), host)) == ["listener_added"] * 2


@pytest.mark.parametrize("listen", ["80 reuseport", "80"])
def test_fewer_sockets_of_one_address_than_now_are_refused(listen: str) -> None:
    has = [("tcp", "0.0.0.0:80")] * 4

    assert words(judged(has, servers(listen))) == ["fewer_workers"]


def test_workers_by_the_number_of_processors_are_counted_as_the_kernel_counts_them() -> None:
    host = RecordedMachine(texts={"/sys/devices/system/cpu/online": "0-2,5\n"})

    assert workers_wanted(host, config("worker_processes auto;")) == 4
    assert workers_wanted(host, config("worker_processes 3;")) == 3
    assert workers_wanted(host, config("events {}")) == 1
    assert workers_wanted(RecordedMachine(), config("worker_processes auto;")) is None


def test_http_3_without_quic_bpf_is_refused() -> None:
    has = [("tcp", "0.0.0.0:443"), ("udp", "0.0.0.0:443")]
    listens = ("443 ssl", "443 quic reuseport")

    assert words(judged(has, servers(*listens))) == ["quic"]
    assert judged(has, servers(*listens, before="quic_bpf on;")) == []


def test_a_port_that_is_none_is_left_to_nginx() -> None:
    assert wanted(RecordedMachine(), config(servers("127.0.0.1:http"))) == ()


def test_the_kernel_tells_what_a_process_listens_on_and_whether_more_can_be_had() -> None:
    machine, pid = Machine(), os.getpid()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]

        mine = held(machine, a_master(pid=pid, listeners=tuple(machine.socket_inodes(pid))))

        assert mine[Address("tcp", "127.0.0.1", port)] == 1
        assert machine.bind_error("tcp", "127.0.0.1", port)
    assert machine.bind_error("tcp", "127.0.0.1", 0) is None
