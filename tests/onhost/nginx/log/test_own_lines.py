"""What a running nginx wrote to its log, wherever those lines are by now; and that no line of another counts as its own."""

import gzip
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.onhost.nginx.log.own_lines import History, history
from fleet.onhost.nginx.observe import Observer
from fleet.onhost.observation import Master
from fleet.onhost.protocol import Layout
from fleet.onhost.system.machine import Machine
from tests.support.complaints import AFFINITY, AFFINITY_BROKEN, AFFINITY_FAILED
from tests.support.onhost.recorded import RecordedMachine, a_master
from tests.support.private_nginx import PrivateNginx, wait_until

OTHER_PID = 4_194_304  # One more than the highest that the kernel gives.


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[PrivateNginx]:
    found = PrivateNginx(tmp_path, main=AFFINITY).start_well()
    wait_until(lambda: found.log.read_text().count(AFFINITY_FAILED) == 2, "the complaints of both workers")
    yield found
    found.end()


def old(nginx: PrivateNginx) -> Master:
    return Observer(Machine(), Layout(pid_file=str(nginx.pid_file))).look().masters[0]


def read(nginx: PrivateNginx) -> History:
    return history(Machine(), old(nginx))


def texts(nginx: PrivateNginx) -> list[str]:
    """What counts as the running release's own, without times and pids."""
    return [line.partition(": ")[2] for line in read(nginx).lines]


def append(nginx: PrivateNginx, *lines: str) -> None:
    """Write lines to the log with the time of its last line."""
    at = nginx.log.read_text()[-4096:].splitlines()[-1][:19]
    with nginx.log.open("a") as sink:
        sink.writelines(f"{at} {line}\n" for line in lines)


def rotate(nginx: PrivateNginx) -> Path:
    """As logrotate does; the file that now holds what was written."""
    for number in (2, 1):
        if nginx.log.with_suffix(f".log.{number}").exists():
            nginx.log.with_suffix(f".log.{number}").rename(nginx.log.with_suffix(f".log.{number + 1}"))
    gone = nginx.log.rename(nginx.log.with_suffix(".log.1"))
    os.kill(nginx.master(), signal.SIGUSR1)
    wait_until(lambda: nginx.log.exists() and "reopen" in gone.read_text(), "a new log")
    return gone


def pack(path: Path) -> Path:
    """As logrotate does: the packed file has the times of what it holds."""
    packed = path.with_name(path.name + ".gz")
    with path.open("rb") as source, gzip.open(packed, "wb") as sink:
        shutil.copyfileobj(source, sink)
    shutil.copystat(path, packed)
    path.unlink()
    return packed


def later(path: Path, by_s: float) -> None:
    seen = path.stat()
    os.utime(path, (seen.st_atime, seen.st_mtime + by_s))


def test_what_its_workers_wrote_at_their_start_is_its_own(nginx: PrivateNginx) -> None:
    assert texts(nginx) == [AFFINITY_FAILED] * 2
    assert read(nginx).read.startswith("1 KiB of its log (20")


def test_a_line_of_another_process_is_not_its_own(nginx: PrivateNginx) -> None:
    """An `nginx -t` of the new release, another instance with the same log, a release that was tried and taken back."""
    append(nginx, f"[alert] {OTHER_PID}#{OTHER_PID}: {AFFINITY_BROKEN}")

    assert texts(nginx) == [AFFINITY_FAILED] * 2


def test_a_line_of_an_earlier_process_with_the_same_pid_is_not_its_own(nginx: PrivateNginx) -> None:
    worker = nginx.workers(nginx.master())[0]
    text = nginx.log.read_text()
    nginx.log.write_text(f"2020/01/01 00:00:00 [alert] {worker}#{worker}: {AFFINITY_BROKEN}\n{text}")

    assert texts(nginx) == [AFFINITY_FAILED] * 2


def test_a_worker_that_has_left_is_known_by_the_masters_own_line(nginx: PrivateNginx) -> None:
    master, before = nginx.master(), nginx.workers(nginx.master())
    os.kill(master, signal.SIGHUP)
    wait_until(
        lambda: len(nginx.workers(master)) == 2 and not set(before) & set(nginx.workers(master)), "fresh workers"
    )
    wait_until(lambda: nginx.log.read_text().count(AFFINITY_FAILED) == 4, "their complaints")

    assert texts(nginx) == [AFFINITY_FAILED] * 4


def test_a_worker_of_another_master_is_not_its_own_whatever_that_master_says(nginx: PrivateNginx) -> None:
    append(
        nginx,
        f"[notice] {OTHER_PID}#{OTHER_PID}: start worker process {OTHER_PID + 1}",
        f"[alert] {OTHER_PID + 1}#{OTHER_PID + 1}: {AFFINITY_BROKEN}",
        f"[notice] {nginx.master()}#{nginx.master()}: start new binary process {OTHER_PID + 2}",
        f"[alert] {OTHER_PID + 2}#{OTHER_PID + 2}: {AFFINITY_BROKEN}",
    )

    assert texts(nginx) == [AFFINITY_FAILED] * 2


def test_a_pid_is_its_workers_only_until_that_worker_has_left(nginx: PrivateNginx) -> None:
    master = nginx.master()
    append(
        nginx,
        f"[notice] {master}#{master}: start worker process {OTHER_PID}",
        f"[notice] {master}#{master}: worker process {OTHER_PID} exited with code 0",
    )
    with nginx.log.open("a") as sink:
        sink.write(f"2099/01/01 00:00:00 [alert] {OTHER_PID}#{OTHER_PID}: {AFFINITY_BROKEN}\n")

    assert texts(nginx) == [AFFINITY_FAILED] * 2


IGNORED = "setsockopt(TCP_FASTOPEN, 3) unix:{}/x.sock failed, ignored (95: Operation not supported)"


def test_what_the_process_that_started_the_master_wrote_is_its_own(tmp_path: Path) -> None:
    """nginx reads its configuration before it becomes a daemon, and has another pid then."""
    nginx = PrivateNginx(tmp_path, more=f"listen unix:{tmp_path}/x.sock fastopen=3;").start_well()
    try:
        master, text = nginx.master(), nginx.log.read_text()
        found = re.search(r"(\d+)#\1: setsockopt", text)
        assert found is not None
        for before, expected in ((1, [IGNORED.format(tmp_path)]), (2, [IGNORED.format(tmp_path)]), (3, [])):
            # As if as many processes had been started while the configuration was read; it may have been others here.
            starter = str(master - before)
            nginx.log.write_text(text.replace(found.group(1), starter))
            append(nginx, f"[alert] {master + 1000}#{master + 1000}: of a later one")
            assert texts(nginx) == expected
    finally:
        nginx.end()


def test_a_master_that_usr2_has_started_has_no_other_process_before_it(nginx: PrivateNginx) -> None:
    """The pids just before its own may be those of the release before, for example of workers that crashed in a loop."""
    nginx.drain(nginx.upgrade(nginx.binary)[0])
    os.kill(nginx.master(".oldbin"), signal.SIGQUIT)
    wait_until(lambda: not nginx.pid_file.with_suffix(".pid.oldbin").exists(), "the end of the old master")
    master = nginx.master()
    wait_until(lambda: nginx.log.read_text().count(AFFINITY_FAILED) == 4, "the complaints of the new workers")
    append(nginx, *(f"[alert] {pid}#{pid}: {AFFINITY_BROKEN}" for pid in (master - 2, master - 1)))

    wait_until(lambda: texts(nginx) == [AFFINITY_FAILED] * 2, "the lines of the new workers alone")
    assert AFFINITY_BROKEN not in texts(nginx)


@pytest.mark.parametrize("is_packed", [False, True])
def test_the_start_is_found_in_a_rotated_log(nginx: PrivateNginx, is_packed: bool) -> None:
    first = rotate(nginx)
    if is_packed:
        pack(first)

    assert texts(nginx) == [AFFINITY_FAILED] * 2


def test_the_start_is_found_many_rotations_ago(nginx: PrivateNginx) -> None:
    packed = pack(rotate(nginx)).rename(nginx.log.with_suffix(".log.9.gz"))
    for number in range(2, 9):
        between = nginx.log.with_suffix(f".log.{number}")
        between.write_text(f"2026/01/01 00:00:00 [alert] {OTHER_PID}#{OTHER_PID}: {AFFINITY_BROKEN}\n")
        later(between, 3600.0 * (10 - number))
    assert packed.stat().st_mtime < nginx.log.stat().st_mtime + 1

    assert texts(nginx) == [AFFINITY_FAILED] * 2


@pytest.mark.parametrize("is_packed", [False, True])
def test_the_start_is_found_in_a_log_that_is_far_too_large_to_read(nginx: PrivateNginx, is_packed: bool) -> None:
    text = nginx.log.read_text()
    now = text.splitlines()[-1][:19]
    early = f"2020/01/01 00:00:00 [error] 1#1: {'x' * 1000}\n" * 6000
    late = f"{now} [error] 1#1: {'x' * 1000}\n" * 9000
    nginx.log.write_text(early + text + late)
    if is_packed:
        pack(rotate(nginx))

    assert texts(nginx) == [AFFINITY_FAILED] * 2


def test_no_line_is_read_twice(nginx: PrivateNginx) -> None:
    """Else an exit would seem to have been more frequent than it was."""
    worker = nginx.workers(nginx.master())[0]
    os.kill(worker, signal.SIGSEGV)
    wait_until(lambda: nginx.logged("exited on signal 11"), "the alert of the master")
    nginx.wait_for_workers(nginx.master())
    wait_until(lambda: nginx.log.read_text().count(AFFINITY_FAILED) == 3, "the complaint of the third worker")
    pack(rotate(nginx))

    assert sorted(texts(nginx))[:-1] == [AFFINITY_FAILED] * 3
    assert "exited on signal 11" in sorted(texts(nginx))[-1]


def test_times_are_read_as_nginx_writes_them_in_a_time_zone_of_its_own(tmp_path: Path) -> None:
    """Nine hours behind: the lines of its start look like lines from long before it."""
    nginx = PrivateNginx(tmp_path, main=AFFINITY, start="env TZ=XXX9").start_well()
    try:
        wait_until(lambda: nginx.log.read_text().count(AFFINITY_FAILED) == 2, "the complaints of both workers")

        assert texts(nginx) == [AFFINITY_FAILED] * 2
    finally:
        nginx.end()


def test_a_log_that_was_removed_is_read_through_the_master(nginx: PrivateNginx) -> None:
    nginx.log.unlink()
    wait_until(lambda: not nginx.log.exists(), "the removal")
    try:
        assert texts(nginx) == [AFFINITY_FAILED] * 2
    finally:
        nginx.log.touch()
        os.kill(nginx.master(), signal.SIGUSR1)
        wait_until(lambda: len(nginx.processes()) >= 3, "the log reopened by all")


def test_what_is_no_log_among_the_rotated_ones_blocks_nothing(nginx: PrivateNginx) -> None:
    """The folder may belong to the user of the workers."""
    os.mkfifo(nginx.log.with_suffix(".log.1"))
    nginx.log.with_suffix(".log.2").symlink_to("/dev/zero")
    nginx.log.with_suffix(".log.3.gz").write_bytes(b"\x1f\x8bno gzip file")
    nginx.log.with_suffix(".log.4").mkdir()

    assert texts(nginx) == [AFFINITY_FAILED] * 2


def test_a_master_without_a_log_has_no_history() -> None:
    assert history(RecordedMachine(), a_master()) == History()
