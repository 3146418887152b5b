"""What drains, since when, and when nginx closes what is left."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.onhost.instance import Instance
from fleet.onhost.nginx import draining
from fleet.onhost.nginx.draining import Timeout, drain_view, seconds_of
from fleet.onhost.nginx.observe import Observer
from fleet.onhost.observation import Master, Observation, Worker
from fleet.onhost.protocol import Layout
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.system.machine import Machine
from fleet.onhost.system.sock_diag import Established
from fleet.onhost.system.sockets import Listener
from tests.support.onhost.kept import KeptInMemory
from tests.support.private_nginx import PrivateNginx

UP_S = 10_000.0
TICKS = 100
LISTENS = 77


class Host(Machine):
    """A host that is up for `UP_S`, whose processes have the connections in `held`: (pid, local port, silent seconds)."""

    def __init__(self, *held: tuple[int, int, float]) -> None:
        self.held = held
        self.asked = 0

    def boottime_s(self) -> float:
        return UP_S

    def socket_inodes(self, pid: int) -> frozenset[int]:
        return frozenset({LISTENS} | {number for number, one in enumerate(self.held, 1000) if one[0] == pid})

    def among(self, inodes: Any, pid: int) -> list[Established]:
        self.asked += 1
        return [Established(n, port, silent) for n, (_, port, silent) in enumerate(self.held, 1000) if n in inodes]

    def listeners(self, pid: int) -> dict[int, Listener]:
        return {LISTENS: Listener(LISTENS, "tcp", "0.0.0.0:443")}


def worker(pid: int, age_s: float, draining: bool = True) -> Worker:
    return Worker(pid, int((UP_S - age_s) * TICKS), draining, ready=True)


def master(pid: int, *workers: Worker, age_s: float = 5000.0) -> Master:
    return Master(pid, int((UP_S - age_s) * TICKS), 1, "a" * 64, ("/usr/sbin/nginx",), workers, (LISTENS,))


def seen(*masters: Master) -> Observation:
    return Observation(masters, "/usr/sbin/nginx", "a" * 64, "/run/nginx.pid", masters[-1].pid, None)


def kept(*signals: tuple[str, float]) -> KeptInMemory:
    """The journal of a host that sent these signals to the old master, so many seconds ago."""
    own = KeptInMemory(Machine())
    for name, ago_s in signals:
        own.note(signal=name, pid=1, start=master(1).start, boot_s=UP_S - ago_s)
    return own


NEW = master(2, worker(20, 100.0, draining=False), age_s=100.0)


@pytest.fixture
def timeout(monkeypatch: pytest.MonkeyPatch) -> dict[str, Timeout]:
    """What the old master's configuration says, for tests in which no nginx runs."""
    found = {"now": Timeout()}
    monkeypatch.setattr(draining, "_shutdown_timeout", lambda *_: found["now"])
    return found


def test_a_host_where_nothing_drains_is_not_asked_for_its_connections() -> None:
    host = Host((10, 443, 0.0))

    assert drain_view(host, kept(), seen(master(1, worker(10, 50.0, draining=False)))) is None
    assert host.asked == 0


@pytest.mark.usefixtures("timeout")
def test_the_drain_is_as_old_as_the_signal_that_fleet_sent() -> None:
    old = master(1, worker(10, 900.0), worker(11, 900.0))

    view = drain_view(Host((10, 443, 0.0), (11, 443, 0.0)), kept(("SIGWINCH", 60.0)), seen(old, NEW))

    assert view is not None
    assert (view.workers, view.connections, view.since_s) == (2, 2, 60.0)
    assert view.ages == ((60.0, 2),)


@pytest.mark.usefixtures("timeout")
def test_workers_that_were_drained_one_set_after_the_other_are_told_apart() -> None:
    """A reload from outside gave the old master new workers, which were drained by a second WINCH."""
    old = master(1, worker(10, 900.0), worker(11, 300.0))
    view = drain_view(
        Host((10, 443, 0.0), (11, 443, 0.0), (11, 443, 0.0)),
        kept(("SIGWINCH", 600.0), ("SIGWINCH", 60.0)),
        seen(old, NEW),
    )

    assert view is not None
    assert (view.since_s, view.ages) == (600.0, ((600.0, 1), (60.0, 2)))


def test_a_drain_that_nothing_dates_gets_no_date(timeout: dict[str, Timeout]) -> None:
    """WINCH was sent by hand."""
    timeout["now"] = Timeout(1800.0)

    view = drain_view(Host((10, 443, 0.0)), kept(), seen(master(1, worker(10, 900.0)), NEW))

    assert view is not None
    assert (view.connections, view.since_s, view.ages) == (1, None, ())
    assert (view.shutdown_timeout_s, view.cut_in_s) == (1800.0, None)


def test_after_a_reload_the_workers_that_replaced_them_date_the_drain() -> None:
    view = drain_view(Host((10, 443, 0.0)), None, seen(master(1, worker(10, 900.0), worker(12, 40.0, draining=False))))

    assert view is not None
    assert view.since_s == pytest.approx(40.0, abs=0.02)


def test_a_worker_that_was_started_anew_dates_no_drain_of_its_own_set() -> None:
    """It is younger than the one that drains, but another of its set, older than both, still accepts."""
    workers = worker(10, 500.0), worker(11, 900.0, draining=False), worker(12, 40.0, draining=False)

    view = drain_view(Host(), None, seen(master(1, *workers)))

    assert view is not None
    assert view.since_s is None


@pytest.mark.usefixtures("timeout")
def test_a_connection_to_an_upstream_is_none_of_a_client() -> None:
    view = drain_view(Host((10, 443, 0.0), (10, 53211, 0.0)), kept(), seen(master(1, worker(10, 900.0)), NEW))

    assert view is not None
    assert view.connections == 1


@pytest.mark.usefixtures("timeout")
def test_silent_connections_are_counted_apart() -> None:
    host = Host((10, 443, 3.0), (10, 443, 299.0), (10, 443, 301.0))

    view = drain_view(host, kept(), seen(master(1, worker(10, 900.0)), NEW))

    assert view is not None
    assert (view.connections, view.silent) == (3, 1)


def test_what_is_left_is_cut_when_the_youngest_drain_reaches_the_timeout(timeout: dict[str, Timeout]) -> None:
    timeout["now"] = Timeout(700.0)
    old = master(1, worker(10, 900.0), worker(11, 300.0))

    view = drain_view(Host(), kept(("SIGWINCH", 600.0), ("SIGWINCH", 60.0)), seen(old, NEW))

    assert view is not None
    assert (view.shutdown_timeout_s, view.cut_in_s) == (700.0, 640.0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0),
        ("30s", 30.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("500ms", 0.5),
        ("1d", 86400.0),
        ("soon", None),
        ("", None),
    ],
)
def test_a_time_is_read_as_nginx_writes_it(value: str, seconds: float | None) -> None:
    assert seconds_of(value) == seconds


@contextmanager
def held(folder: Path, main: str) -> Iterator[tuple[PrivateNginx, InstanceStore, Observer]]:
    """A real nginx with these lines of configuration, held by hand while a client downloads from its old master."""
    nginx = PrivateNginx(folder, main=main).start_well()
    layout = Layout(pid_file=str(nginx.pid_file), state_dir=str(folder / "state"))
    try:
        with socket.create_connection(("127.0.0.1", nginx.port)) as client:
            client.sendall(b"GET /big.bin HTTP/1.1\r\nHost: host\r\n\r\n")
            client.recv(100)
            old, _ = nginx.upgrade(nginx.binary)
            nginx.drain(old)
            yield nginx, Instance.at(Machine(), layout).own, Observer(Machine(), layout)
    finally:
        nginx.end()


def test_a_real_host_says_how_many_connections_drain_and_when_nginx_cuts_them(tmp_path: Path) -> None:
    with held(tmp_path, "worker_shutdown_timeout 30m;\n") as (_, own, observer):
        look = observer.look()
        own.note(signal="SIGWINCH", pid=look.masters[0].pid, start=look.masters[0].start, boot_s=Machine().boottime_s())

        view = drain_view(Machine(), own, look)

        assert view is not None
        assert (view.workers, view.connections, view.shutdown_timeout_s, view.changed) == (1, 1, 1800.0, "")
        assert view.cut_in_s == pytest.approx(1800.0, abs=5.0)


def test_a_configuration_that_was_changed_since_says_nothing_of_what_is_in_memory(tmp_path: Path) -> None:
    with held(tmp_path, "worker_shutdown_timeout 30m;\n") as (nginx, own, observer):
        config = nginx.folder / "conf" / "nginx.conf"
        config.write_text(config.read_text().replace("30m", "5m"))

        view = drain_view(Machine(), own, observer.look())

        assert view is not None
        assert (view.shutdown_timeout_s, view.cut_in_s) == (None, None)
        assert str(config) in view.changed


def test_a_configuration_without_the_directive_never_cuts(tmp_path: Path) -> None:
    with held(tmp_path, "") as (_, own, observer):
        view = drain_view(Machine(), own, observer.look())

    assert view is not None
    assert (view.connections, view.shutdown_timeout_s, view.changed) == (1, None, "")
