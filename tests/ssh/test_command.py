"""A command costs this process next to nothing, however much the host prints, and hears only what it is meant to."""

import threading
import time

from fleet.ssh.command import Command
from fleet.ssh.connection import Link
from tests.ssh.stubs import QUICK


def silence_s() -> float:
    return QUICK.silence_s


def test_twenty_megabytes_are_read_as_fast_as_they_come(link: Link) -> None:
    """Fabric joins all that has come for each kilobyte that comes: 75 s."""
    command = Command(link, "exec sh -c 'yes $(printf %02000d 7) | head -n 9999'")
    began_s = time.process_time()

    size_bytes = sum(len(line) for line in command.lines(silence_s))

    assert size_bytes == 2000 * 9999
    assert time.process_time() - began_s < 7.5


def test_a_command_needs_no_thread_of_its_own(link: Link) -> None:
    """Fabric begins three for each, which poll."""
    before = threading.active_count()
    command = Command(link, "exec cat")

    assert threading.active_count() == before
    command.end()
    assert list(command.lines(silence_s)) == []


def test_a_command_hears_what_is_sent_to_it_and_no_more(link: Link) -> None:
    """Fabric reads the operator's stdin in every thread, and writes it letter by letter."""
    said = b"x" * (1 << 20) + b"\n"
    command = Command(link, "exec wc -c")

    command.pour(memoryview(said), QUICK.transfer_idle_s)
    command.end()

    assert [int(line) for line in command.lines(silence_s)] == [len(said)]
