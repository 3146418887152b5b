"""The lab's releases on lab hosts, installed and started by USR2: where each bad one fails, and how that is seen."""

import os
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM

import pytest

from fleet.lab.lab import Lab
from fleet.lab.processes import this_process
from fleet.lab.releases.build import KINDS, make_release
from fleet.lab.traffic.load import Traffic
from tests.support.lab.nginx_host import NginxHost

NEVER_STARTS = {
    "truncated": "new binary process [0-9]+ exited on signal",
    "wrong-arch": r"execve\(\) failed .*8: Exec format error",
    "not-executable": r"execve\(\) failed .*13: Permission denied",
    "missing-lib": "new binary process [0-9]+ exited with code 127",
    "bad-config": 'unknown directive "worker_processes"',
}


@pytest.fixture
def nginx() -> Iterator[NginxHost]:
    lab = Lab.up(f"release-{os.getpid()}", 1, owner=this_process())
    try:
        yield NginxHost(lab.host("lab-001"))
    finally:
        lab.down()


@pytest.mark.parametrize("kind", NEVER_STARTS)
def test_a_release_that_never_starts_leaves_the_old_master_alone(nginx: NginxHost, tmp_path: Path, kind: str) -> None:
    with Traffic({"one": nginx.target}, slow=False) as traffic:
        old = nginx.launch(make_release(kind, tmp_path / kind))
        nginx.wait_for_log(NEVER_STARTS[kind])
        nginx.wait_for_log("new binary process [0-9]+ exited")
        report = traffic.stop()

    assert nginx.master() == old
    assert len(nginx.children(old)) == 2
    assert report.failed() == 0, str(report)


@pytest.mark.parametrize("kind", ["new", "hang-workers", "crash-on-request", "errors"])
def test_a_release_whose_workers_stay_is_seen_beside_the_old_master(
    nginx: NginxHost, tmp_path: Path, kind: str
) -> None:
    old = nginx.launch(make_release(kind, tmp_path / kind))
    new = nginx.new_master(old)
    nginx.wait_for_workers(new)

    assert nginx.running_version(old) == "nginx version: nginx/1.22.1"
    assert nginx.running_version(new) == "nginx version: nginx/1.22.9"
    assert len(nginx.children(old)) == 2


def test_a_release_whose_workers_crash_costs_nothing_before_the_old_ones_leave(
    nginx: NginxHost, tmp_path: Path
) -> None:
    with Traffic({"one": nginx.target}, slow=False) as traffic:
        old = nginx.launch(make_release("crash-workers", tmp_path / "nginx"))
        new = nginx.new_master(old)
        nginx.wait_for_log("worker process [0-9]+ exited on signal 4")
        nginx.signal("KILL", new)
        nginx.wait_for_end(new)
        report = traffic.stop()

    assert len(nginx.children(old)) == 2
    assert report.failed("new") == 0, str(report)


def test_a_release_whose_master_hangs_has_a_pid_file_and_no_worker_and_heeds_no_term(
    nginx: NginxHost, tmp_path: Path
) -> None:
    old = nginx.launch(make_release("hung-master", tmp_path / "nginx"))
    new = nginx.new_master(old)
    nginx.signal("TERM", new)

    assert nginx.running_version(new) == "nginx version: nginx/1.22.9"
    assert nginx.children(new) == []
    assert pending_signals(nginx, new) == 1 << (SIGTERM - 1)  # launched by USR2 it keeps what the old master blocks
    nginx.signal("KILL", new)
    nginx.wait_for_end(new)
    assert nginx.master() == old


def pending_signals(nginx: NginxHost, pid: int) -> int:
    """The signals that wait for a process, as the kernel's bit mask."""
    return int(nginx.host.sh(f"grep ShdPnd /proc/{pid}/status").split()[1], 16)


@pytest.mark.parametrize("kind", ["crash-on-request", "errors"])
def test_a_release_that_fails_only_when_asked_fails_every_request_once_it_is_alone(
    nginx: NginxHost, tmp_path: Path, kind: str
) -> None:
    old = nginx.launch(make_release(kind, tmp_path / kind))
    nginx.wait_for_workers(nginx.new_master(old))
    nginx.drain(old)

    with Traffic({"one": nginx.target}, slow=False) as traffic:
        report = traffic.stop()

    assert report.failed("new") == report.requests("new") > 0, str(report)


def test_every_kind_of_release_is_tried_here() -> None:
    assert set(KINDS) == {
        *NEVER_STARTS,
        "new",
        "hang-workers",
        "crash-on-request",
        "errors",
        "crash-workers",
        "hung-master",
    }
