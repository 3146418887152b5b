"""What the machine sees of processes, and which one a signal reaches."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.onhost.system.machine import Machine
from fleet.onhost.system.process import Gone
from tests.support.private_nginx import wait_until


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs a binary of its own, from a path with a space."""
    binary = tmp_path / "a binary"
    shutil.copy2("/bin/sleep", binary)
    with subprocess.Popen([str(binary), "60"]) as process:
        wait_until(lambda: Machine().image_path(process.pid) == str(binary), "it runs")
        yield process
        process.kill()


def test_a_signal_reaches_only_the_process_that_was_seen(sleeper: subprocess.Popen[bytes]) -> None:
    machine = Machine()
    seen = machine.process(sleeper.pid)
    assert seen is not None

    with pytest.raises(Gone, match=f"process {sleeper.pid} "):
        machine.signal(seen.pid, seen.start + 1, signal.SIGKILL)
    assert sleeper.poll() is None

    machine.signal(seen.pid, seen.start, signal.SIGTERM)
    assert sleeper.wait(10) == -signal.SIGTERM


def test_a_zombie_is_no_process_that_could_serve_or_be_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    machine = Machine()
    os.kill(sleeper.pid, signal.SIGKILL)
    wait_until(lambda: (seen := machine.process(sleeper.pid)) is not None and seen.state == "Z", "it is a zombie")
    zombie = machine.process(sleeper.pid)
    assert zombie is not None

    assert sleeper.pid not in {process.pid for process in machine.processes()}
    with pytest.raises(Gone):
        machine.signal(zombie.pid, zombie.start, signal.SIGTERM)


def test_the_image_is_known_after_its_file_was_replaced(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    machine, binary = Machine(), tmp_path / "a binary"
    before, seen = machine.image_sha256(sleeper.pid), binary.stat()

    binary.unlink()
    binary.write_text("another one")

    assert machine.image_path(sleeper.pid) == str(binary)
    assert machine.image(sleeper.pid) == (seen.st_dev, seen.st_ino)
    assert machine.image_sha256(sleeper.pid) == before
    assert machine.sha256(str(binary)) != before
