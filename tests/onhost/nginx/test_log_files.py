"""Which log files a process holds, and which of them were moved away under it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.onhost.nginx.log_files import moved_away, written_by
from fleet.onhost.system.machine import Machine

HOLD = "import sys; held = [open(path, mode) for path, mode in zip(sys.argv[1::2], sys.argv[2::2])]; "
UNTIL_TOLD = HOLD + "print(flush=True); sys.stdin.read()"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[int]:
    """A process that appends to `a.log` and `b.log` and writes `data` otherwise."""
    files = [str(tmp_path / "a.log"), "a", str(tmp_path / "b.log"), "a", str(tmp_path / "data"), "w"]
    process = subprocess.Popen(
        [sys.executable, "-c", UNTIL_TOLD, *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    process.communicate()


def test_the_logs_of_a_process_are_the_files_that_it_appends_to(holder: int, tmp_path: Path) -> None:
    assert written_by(Machine(), holder) == (str(tmp_path / "a.log"), str(tmp_path / "b.log"))


def test_a_log_that_was_renamed_or_removed_is_moved_away(holder: int, tmp_path: Path) -> None:
    machine, names = Machine(), written_by(Machine(), holder)
    assert moved_away(machine, names, [holder]) == ()

    (tmp_path / "a.log").rename(tmp_path / "a.log.1")
    assert moved_away(machine, names, [holder]) == (names[0],)
    (tmp_path / "a.log").write_text("new")
    assert moved_away(machine, names, [holder]) == (names[0],)
    (tmp_path / "b.log").unlink()
    assert moved_away(machine, names, [holder]) == names


def test_a_process_that_has_ended_has_lost_no_log(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    assert moved_away(Machine(), [str(tmp_path / "a.log")], [process.pid]) == ()
    assert not os.path.exists(f"/proc/{process.pid}/fd")
