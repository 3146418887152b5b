"""A command needs no thread, is read to its end however much it prints, and reads only what fleet sends."""

import threading

import pytest

from fleet.ssh.remote import command as command_module
from fleet.ssh.remote.command import Command
from fleet.ssh.transport.connection import Link
from tests.support.ssh.clocks import HandClock
from tests.support.ssh.stubs import QUICK


def silence_s() -> float:
    return QUICK.silence_s


def test_twenty_megabytes_are_read_to_their_end(link: Link) -> None:
    """For the cost, beside Fabric's minute, see tests/bench/output.py."""
    command = Command(link, "exec sh -c 'yes $(printf %02000d 7) | head -n 9999'")

    size_bytes = sum(len(line) for line in command.lines(silence_s))

    assert size_bytes == 2000 * 9999


def test_a_command_needs_no_thread_of_its_own(link: Link) -> None:
    """Fabric starts three for each, which poll."""
    before = threading.active_count()
    command = Command(link, "exec cat")

    assert threading.active_count() == before
    command.close_stdin()
    assert list(command.lines(silence_s)) == []


def test_a_command_reads_only_what_is_sent_to_it(link: Link) -> None:
    """Fabric reads the operator's stdin in every thread, and writes it letter by letter."""
    said = b"x" * (1 << 20) + b"\n"
    command = Command(link, "exec wc -c")

    command.write_all(memoryview(said), QUICK.transfer_idle_s)
    command.close_stdin()

    assert [int(line) for line in command.lines(silence_s)] == [len(said)]


def test_the_time_between_two_lines_does_not_count_against_the_host(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two lines a password may wait for the gate, and an upload may run."""
    clock = HandClock()
    monkeypatch.setattr(command_module, "time", clock)
    heard = []

    for line in Command(link, "exec sh -c 'echo one; sleep 2; echo two'").lines(silence_s):
        heard.append(line)
        clock.sleep(1000)

    assert heard == [b"one", b"two"]
