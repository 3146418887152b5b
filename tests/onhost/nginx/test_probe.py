"""Probes count only when a worker of the right master answers them: on a real nginx with two generations."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
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
