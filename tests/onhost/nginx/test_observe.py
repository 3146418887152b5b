"""What a look at a real nginx says of the files around it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.onhost.nginx.observe import Observer, beside
from fleet.onhost.protocol import Layout
from fleet.onhost.remembered import SETTLED_S, Remembered
from fleet.onhost.system.machine import Machine
from fleet.onhost.system.sockets import Listener
from tests.support.private_nginx import PrivateNginx, wait_until


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[PrivateNginx]:
    found = PrivateNginx(tmp_path).start_well()
    yield found
    found.end()


@pytest.mark.parametrize("pid", ["", "99999999", "the master's own"])
def test_an_oldbin_that_names_no_older_master_is_litter(pid: str, nginx: PrivateNginx) -> None:
    """After a power cut it is always there, and the pid in it may be anybody's by then."""
    stale = Path(f"{nginx.pid_file}.oldbin")
    stale.write_text(f"{nginx.master()}\n" if pid == "the master's own" else pid)

    look = Observer(Machine(), Layout(pid_file=str(nginx.pid_file))).look()

    assert look.litter == (str(stale),)


class CountingMachine(Machine):
    """Counts how often the kernel's socket tables are read."""

    tables_read = 0

    def listeners(self, pid: int) -> dict[int, Listener]:
        self.tables_read += 1
        return super().listeners(pid)


def test_the_socket_tables_are_read_again_only_when_other_sockets_are_held(nginx: PrivateNginx) -> None:
    machine = CountingMachine()
    observer = Observer(machine, Layout(pid_file=str(nginx.pid_file)))
    looks = [observer.look() for _ in range(5)]

    assert machine.tables_read == 1
    assert len(looks[-1].masters[0].listeners) == 1
    old, new = nginx.upgrade(nginx.binary)

    assert [(one.pid, one.listeners) for one in observer.look().masters] == [
        (old, looks[0].masters[0].listeners),
        (new, looks[0].masters[0].listeners),
    ]
    assert machine.tables_read == 2


def test_an_oldbin_that_names_the_older_master_of_two_is_none(nginx: PrivateNginx, tmp_path: Path) -> None:
    old, new = nginx.upgrade(nginx.binary)

    look = Observer(Machine(), Layout(pid_file=str(nginx.pid_file))).look()

    assert ([one.pid for one in look.masters], look.oldbin_pid, look.litter) == ([old, new], old, ())


def test_orphans_that_run_the_kept_binary_are_the_instance_s_own(nginx: PrivateNginx) -> None:
    """After a swap the old master and its workers run the file under fleet's own name."""
    master, workers = nginx.master(), tuple(sorted(nginx.workers(nginx.master())))
    kept = Path(beside(str(nginx.binary), "kept"))
    kept.write_bytes(nginx.binary.read_bytes())
    assert Machine().exchange(str(kept), str(nginx.binary))
    os.kill(master, signal.SIGKILL)
    observer = Observer(Machine(), Layout(binary=str(nginx.binary), pid_file=str(nginx.pid_file)))
    wait_until(lambda: not observer.look().masters, "the master's end")

    assert observer.look().orphans == workers


class Hashing(CountingMachine):
    """Counts the files that it hashes."""

    def __init__(self) -> None:
        self.hashed: list[str] = []
        self.age_s_of_change = 0.0

    def sha256(self, path: str) -> str | None:
        self.hashed.append(path)
        return super().sha256(path)

    def age_of_change_s(self, seen: os.stat_result) -> float:
        return self.age_s_of_change


def test_a_file_is_hashed_once_in_a_conversation_and_again_when_it_changed(tmp_path: Path) -> None:
    binary = tmp_path / "nginx"
    binary.write_bytes(b"one")
    layout, remembered, machine = Layout(binary=str(binary)), Remembered(), Hashing()

    def hashed() -> str | None:
        """By another request of the conversation."""
        return Observer(machine, layout, remembered)._file_sha256(str(binary))

    first = hashed()
    assert [hashed(), len(machine.hashed)] == [first, 2], "written a moment ago"
    machine.age_s_of_change = SETTLED_S + 1
    assert [hashed(), hashed(), len(machine.hashed)] == [first, first, 3]
    binary.write_bytes(b"two")  # in place, of the same size
    assert hashed() != first
