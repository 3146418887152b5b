"""Probes count only when a worker of the right master answers them: on a real nginx with two generations."""

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.onhost.nginx.probe import Answer, ask
from fleet.onhost.protocol import Probe
from fleet.onhost.system.machine import Machine
from tests.support.private_nginx import PrivateNginx


class Slow(Machine):
    """A host so busy that any worker is idle again before the next connection comes."""

    def dial(self, host: str, port: int, timeout_s: float) -> socket.socket:
        self.pause(0.02)
        return super().dial(host, port, timeout_s)


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[PrivateNginx]:
    found = PrivateNginx(tmp_path).start_well()
    yield found
    found.end()


def a_probe(nginx: PrivateNginx, path: str = "/health", status: int = 200, contains: str | None = None) -> Probe:
    return Probe(f"http://{nginx.target}{path}", status, contains)


@pytest.mark.parametrize("machine", [Machine(), Slow()])
def test_a_new_worker_answers_while_the_old_ones_accept_too(machine: Machine, nginx: PrivateNginx) -> None:
    old, new = nginx.upgrade(nginx.binary)

    for master in (old, new):
        workers = nginx.workers(master)
        answer = ask(machine, a_probe(nginx), workers)

        assert answer.problem is None
        assert answer.by in workers


def test_a_wrong_answer_is_reported_with_its_status_and_its_sender(nginx: PrivateNginx) -> None:
    workers = nginx.workers(nginx.master())

    answer = ask(Machine(), a_probe(nginx, "/nothing-here"), workers)

    assert answer.problem is not None
    assert "answered 404 instead of 200" in answer.problem
    assert str(answer.by) in answer.problem


def test_an_answer_without_the_word_is_wrong(nginx: PrivateNginx) -> None:
    answer = ask(Machine(), a_probe(nginx, contains="maintenance"), nginx.workers(nginx.master()))

    assert answer.problem is not None
    assert "maintenance" in answer.problem


def test_workers_that_take_no_connection_are_no_answer(nginx: PrivateNginx) -> None:
    answer = ask(Machine(), a_probe(nginx)._replace(timeout_s=0.2), [1])

    assert answer.by is None
    assert answer.problem is not None
    assert "was taken by a worker of this master" in answer.problem


def test_a_port_without_a_listener_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    answer = ask(Machine(), Probe(f"http://127.0.0.1:{port}/"), [1])

    assert answer.problem is not None
    assert "refused" in answer.problem


def test_an_answer_that_drips_on_for_ever_ends_at_the_deadline() -> None:
    """A bad release must not keep itself alive by never finishing what it says."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer: list[Answer] = []
        probe = Probe(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout_s=0.5)
        asking = threading.Thread(target=lambda: answer.append(ask(Machine(), probe, [os.getpid()])))
        asking.start()
        server.settimeout(0.05)
        accepted: list[socket.socket] = []
        while asking.is_alive():
            with contextlib.suppress(TimeoutError):
                accepted.append(server.accept()[0])
                accepted[-1].sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            for one in accepted:
                with contextlib.suppress(OSError):
                    one.sendall(b"x")
        for one in accepted:
            one.close()

    assert answer[0].problem is not None
    assert "within" in answer[0].problem


# Listeners as hosts have them: PROXY protocol, UNIX sockets, TLS

ANY = Probe("")
SAYS = 'return 200 "$scheme $host <$proxy_protocol_addr>";'
KINDS = {
    "plain": "{port}",
    "proxied": "{port} proxy_protocol",
    "deferred": "{port} deferred",
    "tls": "{port} ssl",
    "tls-proxied": "{port} ssl proxy_protocol",
    "six-proxied": "[::1]:{number} proxy_protocol",
    "unix": "unix:{folder}/n.sock",
    "unix-proxied": "unix:{folder}/p.sock proxy_protocol",
    "unix-tls": "unix:{folder}/t.sock ssl",
}


@dataclass(frozen=True)
class Listening:
    """An nginx with a server for each kind of listener. `targets` is what its probe's URL has after `://`."""

    nginx: PrivateNginx
    targets: dict[str, str]

    def ask(self, kind: str, scheme: str = "http", probe: Probe = ANY, master: int | None = None) -> Answer:
        """The answer to this probe, whose URL is that of the listener."""
        return ask(
            Machine(),
            probe._replace(url=f"{scheme}://{self.targets[kind]}"),
            self.nginx.workers(master or self.nginx.master()),
        )


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    folder = tmp_path_factory.mktemp("nginx")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=lab",
            "-keyout",
            "key",
            "-out",
            "cert",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    nginx = PrivateNginx(folder)
    targets, servers = {}, ""
    for kind, written in KINDS.items():
        number = free_port()
        listen = written.format(port=f"127.0.0.1:{number}", number=number, folder=folder)
        targets[kind] = f"{listen.split(' ')[0]}:/a" if "unix" in kind else f"{listen.split(' ')[0]}/a"
        tls = f"ssl_certificate {folder}/cert; ssl_certificate_key {folder}/key;" if "ssl" in listen else ""
        servers += f"server {{ listen {listen}; {tls} {SAYS} }}\n"
    config = folder / "conf" / "nginx.conf"
    config.write_text(config.read_text().replace("server {", servers + "server {", 1))
    yield Listening(nginx.start_well(), targets)
    nginx.end()


@pytest.fixture(scope="module")
def generations(listening: Listening) -> tuple[int, int]:
    return listening.nginx.upgrade(listening.nginx.binary)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def scheme_of(kind: str) -> str:
    return "https" if "tls" in kind else "http"


@pytest.mark.parametrize("kind", KINDS)
def test_each_generation_answers_a_probe_that_suits_the_listener(
    listening: Listening, generations: tuple[int, int], kind: str
) -> None:
    scheme, proxied = scheme_of(kind), "proxied" in kind
    address = {"proxied": "127.0.0.1", "tls-proxied": "127.0.0.1", "six-proxied": "::1"}.get(kind, "")
    host = "localhost" if "unix" in kind else listening.targets[kind].partition("/")[0].rpartition(":")[0]

    for master in generations:
        answer = listening.ask(
            kind, scheme, Probe("", proxy_protocol=proxied, contains=f"{scheme} {host} <{address}>"), master
        )

        assert answer.problem is None
        assert answer.by in listening.nginx.workers(master)


@pytest.mark.parametrize("kind", ["proxied", "tls-proxied", "six-proxied", "unix-proxied"])
def test_a_probe_that_forgets_the_proxy_protocol_is_advised_to_add_it(listening: Listening, kind: str) -> None:
    answer = listening.ask(kind, scheme_of(kind))

    assert answer.by is not None
    assert "no answer (" in str(answer.problem)
    assert "add `proxy_protocol: true`" in answer.advice


@pytest.mark.parametrize("kind", ["plain", "tls", "unix"])
def test_a_probe_with_a_proxy_line_that_the_listener_does_not_expect_is_advised_to_drop_it(
    listening: Listening, kind: str
) -> None:
    answer = listening.ask(kind, scheme_of(kind), Probe("", proxy_protocol=True))

    assert answer.by is not None
    assert answer.problem
    assert "remove `proxy_protocol`" in answer.advice


@pytest.mark.parametrize(
    ("kind", "scheme", "probe", "advice"),
    [
        ("plain", "https", ANY, "write `http://`"),
        ("unix", "https", ANY, "write `http://`"),
        ("tls", "http", ANY, "write `https://`"),
        ("plain", "http", Probe("", status=301), "set `status: 200`"),
        ("plain", "http", Probe("", contains="maintenance"), "correct `contains`"),
    ],
)
def test_another_wrong_probe_is_advised_too(
    listening: Listening, kind: str, scheme: str, probe: Probe, advice: str
) -> None:
    answer = listening.ask(kind, scheme, probe)

    assert answer.problem
    assert advice in answer.advice


def test_a_given_host_header_replaces_localhost(listening: Listening) -> None:
    probe = Probe("", host_header="www.example.net", contains="http www.example.net <")

    assert listening.ask("unix", probe=probe).problem is None


def test_a_socket_that_no_nginx_listens_on_is_no_answer(tmp_path: Path) -> None:
    answer = ask(Machine(), Probe(f"http://unix:{tmp_path}/n.sock:/"), [os.getpid()])

    assert (answer.by, answer.problem) == (None, f"http://unix:{tmp_path}/n.sock:/: No such file or directory")


def test_a_socket_of_the_longest_name_that_nginx_listens_on_is_reached(tmp_path: Path) -> None:
    """`/proc/PID/root` before it would not fit into the address."""
    folder = Path("/tmp") / f"fleet-{os.getpid()}"
    path = f"{folder}/{'n' * (106 - len(str(folder)))}"
    folder.mkdir()
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            assert len(path) == 107
            Machine().dial_unix(path, 5.0, os.getpid()).close()
    finally:
        Path(path).unlink()
        folder.rmdir()


def test_workers_that_are_not_there_are_no_answer(listening: Listening) -> None:
    for kind in ("plain", "unix"):
        answer = ask(Machine(), Probe(f"http://{listening.targets[kind]}"), [])

        assert answer.by is None
        assert "no accepting worker" in str(answer.problem)
