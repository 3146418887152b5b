"""The HTTP clients of the lab: they count each fault as what it is, and count none in a good upgrade."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fleet.lab.releases.build import make_release
from fleet.lab.traffic.load import Traffic, TrafficError, TrafficReport, What
from fleet.onhost.system.machine import Machine
from tests.support.private_nginx import PrivateNginx, wait_until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[PrivateNginx]:
    nginx = PrivateNginx(tmp_path)
    try:
        yield nginx.start_well()
    finally:
        nginx.end()


class FaultyServer:
    """A server on the loopback that treats its n-th connection (from 1) as `serve(connection, n)` does."""

    def __init__(self, serve: Callable[[socket.socket, int], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0

    def __enter__(self) -> "FaultyServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._treat, args=(connection, self.connections), daemon=True).start()

    def _treat(self, connection: socket.socket, number: int) -> None:
        with connection:
            try:
                self._serve(connection, number)
            except OSError:
                return  # the client gave up first, as it should


def says(answer: bytes) -> Callable[[socket.socket, int], None]:
    """Answer the first request of a connection so, and close it."""

    def serve(connection: socket.socket, number: int) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    return serve


def reset(connection: socket.socket, number: int) -> None:
    connection.recv(4096)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(connection: socket.socket, number: int) -> None:
    connection.recv(4096)


def stay_silent(connection: socket.socket, number: int) -> None:
    while connection.recv(4096):
        pass


def hang_up_at_the_second_request(connection: socket.socket, number: int) -> None:
    connection.recv(4096)
    connection.sendall(OK)
    connection.recv(4096)


def answer_only_the_first_request_ever(connection: socket.socket, number: int) -> None:
    connection.recv(4096)
    if number == 1:
        connection.sendall(OK)
        connection.recv(4096)


def one_kept_connection(target: str) -> Traffic:
    return Traffic({"one": target}, rate_per_s=0, keepalive=1, keepalive_rate_per_s=50, slow=False)


def report_of(traffic: Traffic, *, once: Callable[[], bool]) -> TrafficReport:
    """The report of a traffic that was stopped as soon as `once` was true."""
    with traffic:
        wait_until(once, "enough traffic")
        return traffic.stop()


def test_a_golden_upgrade_fails_no_request_of_any_client(nginx: PrivateNginx, tmp_path: Path) -> None:
    release = make_release("new", tmp_path / "nginx.new")

    with Traffic({"one": nginx.target}, rate_per_s=150, slow_s=1) as traffic:
        traffic.mark("begin")
        old, _ = nginx.upgrade(release)
        nginx.drain(old)
        os.kill(old, signal.SIGQUIT)
        nginx.wait_for_end(old)
        traffic.mark("end")
        report = traffic.stop()

    assert b"nginx/1.22.9" in nginx.get()
    assert report.failed() == 0, str(report)
    assert report.withheld == 0
    assert report.rate >= 150
    assert min(report.requests(client) for client in ("new", "keepalive", "slow")) > 0
    assert 0 < report.between("begin", "end").requests("new") <= report.requests("new")


def on_the_wire(workers: list[int]) -> None:
    """These workers are in the middle of some answers."""
    wait_until(lambda: Machine().established(workers) >= 5, "requests on the wire")


def test_a_rollback_by_quit_loses_nothing_and_one_by_term_loses_the_requests_on_the_wire(
    nginx: PrivateNginx, tmp_path: Path
) -> None:
    """The control to the zero above: the same clients, answers that take a second, QUIT beside TERM."""
    release = make_release("new", tmp_path / "nginx.new")

    with Traffic({"one": nginx.target}, path="/trickle.bin", expect_body=None, slow=False) as traffic:
        for goodbye in (signal.SIGQUIT, signal.SIGTERM):
            old, new = nginx.upgrade(release)
            nginx.drain(old)
            on_the_wire(nginx.workers(new))
            os.kill(old, signal.SIGHUP)
            nginx.wait_for_workers(old)
            os.kill(new, goodbye)
            nginx.wait_for_end(new)
            traffic.mark(f"after {goodbye.name}")
        report = traffic.stop()

    by_term = report.between("after SIGQUIT", "after SIGTERM")
    assert by_term.failed("new") > 0, str(report)
    assert report.failed("new") == by_term.failed("new"), str(report)
    assert {each.what for each in by_term.failures} <= {What.SHORT, What.RESET}


def test_connections_that_no_process_accepts_time_out(nginx: PrivateNginx) -> None:
    """The control with WINCH to the only master: the kernel keeps taking connections, and no process answers."""
    master = nginx.master()

    with Traffic({"one": nginx.target}, deadline_s=0.5, slow=False) as traffic:
        traffic.mark("gone")
        nginx.drain(master)
        wait_until(lambda: nginx.waiting_connections() > 60, "connections that no process accepts")
        traffic.mark("back")
        os.kill(master, signal.SIGHUP)
        nginx.wait_for_workers(master)
        report = traffic.stop()

    gone = report.between("gone", "back")
    assert gone.failed("new") > 0, str(report)
    assert {each.what for each in gone.failures} == {What.TIMED_OUT}, str(report)


def test_each_fault_is_counted_under_its_own_name() -> None:
    faults = {
        "reset": (reset, What.RESET),
        "no byte": (hang_up, What.SHORT),
        "short head": (says(b"HTTP/1.1 200 OK\r\nContent-Le"), What.SHORT),
        "short body": (says(OK.replace(b"3", b"30")), What.SHORT),
        "long body": (says(OK + b"more"), What.WRONG),
        "status": (says(OK.replace(b"200", b"500")), What.WRONG),
        "body": (says(OK.replace(b"ok", b"no")), What.WRONG),
        "no length": (says(b"HTTP/1.1 200 OK\r\n\r\nok\n"), What.WRONG),
        "no HTTP": (says(b"hello\r\n\r\n"), What.WRONG),
    }

    with ExitStack() as stack:
        servers = {host: stack.enter_context(FaultyServer(serve)) for host, (serve, _) in faults.items()}
        unused = stack.enter_context(socket.socket())
        unused.bind(("127.0.0.1", 0))
        targets = {host: server.target for host, server in servers.items()}
        targets["refused"] = f"127.0.0.1:{unused.getsockname()[1]}"
        traffic = Traffic(targets, rate_per_s=20, keepalive=1, slow=False)
        report = report_of(traffic, once=lambda: min(server.connections for server in servers.values()) >= 20)

    expected = {host: what for host, (_, what) in faults.items()} | {"refused": What.REFUSED}
    assert {(each.host, each.what) for each in report.failures} == set(expected.items()), str(report)
    assert report.failed("new") == report.requests("new") > 0
    assert report.failed("keepalive") == report.requests("keepalive") > 0


def test_a_download_that_ends_short_has_failed() -> None:
    with FaultyServer(says(OK.replace(b"3", b"30"))) as server:
        traffic = Traffic({"one": server.target}, rate_per_s=0, keepalive=0, slow_path="/", slow_s=0.1)
        report = report_of(traffic, once=lambda: server.connections >= 3)

    assert {(each.client, each.what) for each in report.failures} == {("slow", What.SHORT)}
    assert report.failed("slow") == report.requests("slow") > 0


def test_a_server_that_never_answers_is_timed_out() -> None:
    """Apart from the faults above: its short deadline would count their answers on a busy machine."""
    with FaultyServer(stay_silent) as server:
        traffic = Traffic({"one": server.target}, rate_per_s=20, keepalive=1, slow=False, deadline_s=0.5)
        report = report_of(traffic, once=lambda: True)

    assert {each.what for each in report.failures} == {What.TIMED_OUT}, str(report)
    for client in ("new", "keepalive"):
        assert report.failed(client) == report.requests(client) > 0


def test_a_request_on_a_connection_that_the_server_gave_up_is_asked_again_and_counted_apart() -> None:
    with FaultyServer(hang_up_at_the_second_request) as server:
        report = report_of(one_kept_connection(server.target), once=lambda: server.connections >= 3)

    assert report.failed() == 0, str(report)
    assert {each.host for each in report.keepalive_lost} == {"one"}
    assert report.closed_idle == 0


def test_a_request_that_is_lost_on_the_second_connection_too_has_failed() -> None:
    with FaultyServer(answer_only_the_first_request_ever) as server:
        report = report_of(one_kept_connection(server.target), once=lambda: server.connections >= 3)

    assert len(report.keepalive_lost) == 1
    assert report.failed("keepalive") == report.requests("keepalive") - 1 > 0, str(report)


def test_a_connection_closed_while_idle_is_only_replaced() -> None:
    with FaultyServer(says(OK)) as server:
        report = report_of(one_kept_connection(server.target), once=lambda: server.connections >= 3)

    assert report.failed() == 0, str(report)
    assert report.closed_idle > 0


def test_a_connection_closed_as_announced_is_only_replaced(nginx: PrivateNginx) -> None:
    traffic = Traffic({"one": nginx.target}, rate_per_s=0, slow=False, path="/once")

    report = report_of(traffic, once=lambda: True)

    assert report.failed() == 0, str(report)
    assert report.closed_announced == report.requests("keepalive") > 0


def test_a_late_answer_is_no_failure(nginx: PrivateNginx) -> None:
    with Traffic({"one": nginx.target}, slow=False, keepalive=0) as traffic:
        master = nginx.master()
        nginx.drain(master)
        wait_until(lambda: nginx.waiting_connections() > 80, "connections that wait for more than a second")
        os.kill(master, signal.SIGHUP)
        nginx.wait_for_workers(master)
        report = traffic.stop()

    assert report.failed() == 0, str(report)
    assert {each.client for each in report.late} == {"new"}


def test_an_expected_status_other_than_200_is_no_failure(nginx: PrivateNginx) -> None:
    traffic = Traffic({"one": nginx.target}, slow=False, path="/teapot", expect_status=418)

    assert report_of(traffic, once=lambda: True).failed() == 0


def test_clients_that_died_are_an_error_and_never_a_zero(nginx: PrivateNginx) -> None:
    with Traffic({"one": nginx.target}) as traffic:
        assert traffic.pid is not None
        os.kill(traffic.pid, signal.SIGKILL)

        with pytest.raises(TrafficError, match="status -9"):
            traffic.stop()


def test_clients_do_not_outlive_the_process_that_started_them(nginx: PrivateNginx) -> None:
    program = (
        "import os, sys; from fleet.lab.traffic.load import Traffic; "
        "traffic = Traffic({'one': sys.argv[1]}).start(); print(traffic.pid, flush=True); os._exit(0)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, nginx.target], stdout=subprocess.PIPE, timeout=30, check=True, text=True
    )

    wait_until(lambda: not is_running(int(done.stdout)), "the end of the clients")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_mark_has_one_name_and_must_exist(nginx: PrivateNginx) -> None:
    with Traffic({"one": nginx.target}, slow=False) as traffic:
        traffic.mark("here")
        with pytest.raises(ValueError, match="'here' already"):
            traffic.mark("here")
        report = traffic.stop()

    with pytest.raises(KeyError, match="no mark 'there'; there are: here"):
        report.between("here", "there")


@pytest.mark.parametrize("target", ["127.0.0.1", "lab-001:80", "127.0.0.1:http", ""])
def test_a_target_that_is_no_address_with_a_port_is_refused(target: str) -> None:
    with pytest.raises(ValueError):
        Traffic({"one": target})
