"""The lock of an instance: one at work, whatever becomes of the one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.onhost.state.store import Store
from fleet.onhost.system.file_lock import Busy, holder, locked
from fleet.onhost.system.machine import Machine
from tests.support.private_nginx import wait_until

HOLD = """
import sys, time
from fleet.onhost.system.file_lock import locked
from fleet.onhost.system.machine import Machine

with locked(Machine(), sys.argv[1], 0.0):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_step_script_waits_and_then_names_the_running_one(tmp_path: Path) -> None:
    own = Store(Machine(), str(tmp_path / "state")).instance(str(tmp_path / "nginx.pid"))
    with own.lock(0.0), pytest.raises(Busy, match=str(os.getpid())), own.lock(0.05):
        raise AssertionError("two at work")

    with own.lock(0.0):
        pass


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


def a_holder(path: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def is_stopped(pid: int) -> bool:
    process = Machine().process(pid)
    return process is not None and process.state == "T"


def test_a_stopped_holder_is_ended_and_the_lock_is_free(path: str) -> None:
    with a_holder(path) as process:
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(process.pid), "the stop")

        with locked(Machine(), path, 10.0):
            assert holder(Machine(), path) is not None

        assert process.wait(10) == -signal.SIGKILL


def test_a_holder_that_works_is_left_alone(path: str) -> None:
    with a_holder(path) as process:
        with pytest.raises(Busy, match=f"pid {process.pid}"), locked(Machine(), path, 0.1):
            raise AssertionError("two at work")

        assert process.poll() is None
        process.kill()


def test_a_stranger_with_the_pid_that_the_file_names_is_left_alone(path: str) -> None:
    """The file names a process that has gone; its pid now belongs to another process, which happens to be stopped."""
    with a_holder(path) as process, subprocess.Popen(["/bin/sleep", "60"]) as stranger:
        stranger.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(stranger.pid), "the stop")
        Path(path).write_text(f"{stranger.pid} 1\n")

        with pytest.raises(Busy), locked(Machine(), path, 0.1):
            raise AssertionError("two at work")

        assert stranger.poll() is None
        stranger.kill()
        process.kill()
