"""What a process that the script leaves behind has of its parent: the loaded code, and nothing else."""

import fcntl
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.onhost.system.left_behind import LeftBehind, leave_behind
from tests.support.private_nginx import wait_until

SCRIPT = """\
import json, os, sys, time
folder = sys.argv[1]
facts = {
    "argv": sys.argv,
    "environ": dict(os.environ),
    "cwd": os.getcwd(),
    "leads": os.getsid(0) == os.getpid(),
    "open": sorted(os.readlink("/proc/self/fd/" + name) for name in ("0", "1", "2")),
    "most": max(map(int, os.listdir("/proc/self/fd"))),
}
with open(folder + "/part", "w") as sink:
    json.dump(facts, sink)
os.rename(folder + "/part", folder + "/facts")
while not os.path.exists(folder + "/end"):
    time.sleep(0.01)
sys.exit(7)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def left(script: Path, tmp_path: Path) -> Iterator[LeftBehind]:
    """It runs, and ends with the test."""
    words = [str(script), str(tmp_path)]
    found = leave_behind(words, "python3 " + " ".join(words), {"LANG": "C"})
    try:
        wait_until((tmp_path / "facts").exists, "it runs")
        yield found
    finally:
        (tmp_path / "end").touch()
        wait_until(lambda: found.exit_code() is not None, "its end")


def test_it_has_its_own_session_and_nothing_of_its_parents(left: LeftBehind, script: Path, tmp_path: Path) -> None:
    facts = json.loads((tmp_path / "facts").read_text())

    assert facts["argv"] == [str(script), str(tmp_path)]
    assert facts["environ"].pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"  # Python's own, where the locale is C
    assert facts["environ"] == {"LANG": "C"}
    assert (facts["cwd"], facts["leads"]) == ("/", True)
    assert facts["open"] == ["/dev/null"] * 3
    assert facts["most"] == 3  # the listing itself


def test_ps_shows_the_title_that_was_given(left: LeftBehind, script: Path, tmp_path: Path) -> None:
    shown = Path(f"/proc/{left.pid}/cmdline").read_bytes().rstrip(b"\0").decode()

    assert shown == f"python3 {script} {tmp_path}"


def test_its_exit_code_is_known_to_the_process_that_left_it(left: LeftBehind, tmp_path: Path) -> None:
    assert left.exit_code() is None

    (tmp_path / "end").touch()
    wait_until(lambda: left.exit_code() is not None, "its end")

    assert left.exit_code() == left.exit_code() == 7


def test_a_lock_of_its_parents_is_free_once_the_parent_lets_go(script: Path, tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with open(tmp_path / "lock") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        left = leave_behind([str(script), str(tmp_path)], "title", {})
        wait_until((tmp_path / "facts").exists, "it runs")

    with open(tmp_path / "lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    (tmp_path / "end").touch()
    wait_until(lambda: left.exit_code() is not None, "its end")


def test_it_ends_although_a_thread_of_its_parent_reads_stdin(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread has the lock of that stream; no thread of the fork would ever free it."""
    readable, writable = os.pipe()
    with open(readable, encoding="utf-8") as source, open(writable, "w", encoding="utf-8") as end:
        monkeypatch.setattr(sys, "stdin", source)
        reader = threading.Thread(target=source.readline)
        reader.start()
        left = leave_behind([str(script), str(tmp_path)], "title", {})
        (tmp_path / "end").touch()
        wait_until(lambda: left.exit_code() is not None, "its end")
        end.close()
        reader.join()

    assert left.exit_code() == 7
