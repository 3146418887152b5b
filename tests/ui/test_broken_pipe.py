"""A closed pipe or a full disk neither stops a rollout nor changes its exit code."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.ui.broken_pipe import tolerant, write_error
from tests.support.places import ROOT
from tests.support.pretend.visits import NEW

ALL_NEW = "NEW NEW NEW NEW"


@pytest.fixture
def pipe_without_reader() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


class Command:
    """`fleet` in a process of its own, on pretend hosts."""

    def __init__(self, folder: Path) -> None:
        self.inventory = folder / "hosts.yaml"
        self.inventory.write_text("all: {hosts: {web-01: , web-02: , web-03: , web-04: }}\n")
        self.state = folder / "phases"

    def __call__(self, *words: str, stdout: int, stderr: int) -> "subprocess.CompletedProcess[str]":
        argv = [
            sys.executable,
            "-m",
            "tests.support.pretend.fleet_command",
            str(self.state),
            "-i",
            str(self.inventory),
            *words,
        ]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("FLEET_")}
        environment["FLEET_JOURNAL"] = str(self.state.with_name("journal.db"))
        return subprocess.run(
            argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, text=True
        )

    @property
    def phases(self) -> str:
        return self.state.read_text()


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


UPGRADE = ("upgrade", NEW, "-y", "--bake", "0")


@pytest.mark.parametrize("mode", ["plain", "live", "jsonl"])
def test_a_rollout_continues_when_stderr_is_closed(command: Command, pipe_without_reader: int, mode: str) -> None:
    ran = command(*UPGRADE, "--output", mode, stdout=subprocess.PIPE, stderr=pipe_without_reader)

    assert (ran.returncode, command.phases) == (0, ALL_NEW)


@pytest.mark.parametrize("mode", ["plain", "jsonl"])
def test_a_rollout_continues_when_stdout_is_closed(command: Command, pipe_without_reader: int, mode: str) -> None:
    ran = command(*UPGRADE, "--output", mode, stdout=pipe_without_reader, stderr=subprocess.PIPE)

    assert (ran.returncode, command.phases) == (0, ALL_NEW)
    assert "Completed" in ran.stderr
    assert "Error" not in ran.stderr


@pytest.mark.parametrize("words", [("status",), ("status", "--json"), ("--help",), ("inventory",)])
def test_a_closed_pipe_is_not_an_error(command: Command, pipe_without_reader: int, words: tuple[str, ...]) -> None:
    ran = command(*words, stdout=pipe_without_reader, stderr=subprocess.PIPE)

    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_full_disk_is_reported_and_the_exit_code_is_that_of_the_rollout(command: Command) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = command(*UPGRADE, stdout=full.fileno(), stderr=subprocess.PIPE)

    assert (ran.returncode, command.phases) == (0, ALL_NEW)
    assert "Some output to stdout was lost: No space left on device" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_log_file_on_a_full_disk_is_reported_and_does_not_stop_a_rollout(command: Command) -> None:
    ran = command(*UPGRADE, "--log-file", "/dev/full", stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    assert (ran.returncode, command.phases) == (0, ALL_NEW)
    assert "Events can't be written" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_stream_that_was_closed_before_the_start_accepts_all_text() -> None:
    closed = tolerant(None)

    assert closed.write("words") == 5
    assert write_error(closed) is None


def test_a_tolerant_stream_is_not_wrapped_twice() -> None:
    stream = tolerant(io.StringIO())

    assert tolerant(stream) is stream
