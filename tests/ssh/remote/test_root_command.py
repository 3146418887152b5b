"""A command as root: what comes before its begin is passed over, and each way of not beginning has its own reason."""

from dataclasses import replace

import pytest

from fleet.ssh.link_errors import HostRefused
from fleet.ssh.remote.root_command import RootCommand
from fleet.ssh.transport.connection import Link
from tests.support.ssh.stubs import QUICK


def silence_s() -> float:
    return QUICK.silence_s


def wait() -> None:
    """Goes on waiting for the begin."""


def test_output_of_a_login_before_the_begin_is_passed_over(link: Link) -> None:
    command = RootCommand(link, "echo motd; echo fleet; echo fleet-beginning; echo fleet-begin; echo one; echo two")

    assert command.begin(wait)
    assert list(command.lines(silence_s)) == [b"one", b"two"]


def test_a_host_without_a_bundle_names_its_platform(link: Link) -> None:
    command = RootCommand(link, "echo fleet-missing bundle aarch64 9223372036854775807 glibc 2.36")

    assert not command.begin(wait)
    assert command.platform is not None
    assert command.platform.tag == "aarch64-glibc"


def test_a_host_that_lacks_python_is_refused(link: Link) -> None:
    with pytest.raises(HostRefused) as caught:
        RootCommand(link, "echo fleet-missing python").begin(wait)

    assert caught.value.reason == "python_missing"


def test_a_login_that_ends_before_the_begin_is_refused_with_its_stderr(link: Link) -> None:
    command = RootCommand(link, "echo hello; echo this account is closed >&2; exit 3")

    assert not command.begin(wait)
    error = command.ended_early()
    assert isinstance(error, HostRefused)
    assert error.reason == "no_shell"
    assert "with exit status 3" in error.message
    assert "this account is closed" in error.message


def test_a_command_that_ends_after_the_begin_may_have_acted(link: Link) -> None:
    command = RootCommand(link, "echo fleet-begin; exit 4")

    assert command.begin(wait)
    assert list(command.lines(silence_s)) == []
    error = command.ended_early()
    assert not isinstance(error, HostRefused)
    assert error.reason == "script_died"
    assert "with exit status 4" in error.message


def test_without_ansible_become_a_host_that_asks_is_sent_nothing(link: Link) -> None:
    command = RootCommand(link, "echo fleet-wants-root ann; echo fleet-begin; wc -c")

    assert command.begin(wait)
    command.close_stdin()
    assert [int(line) for line in command.lines(silence_s)] == [0]


def test_the_time_of_sudo_without_a_password_does_not_count(link: Link) -> None:
    """A sudo that asks a directory may be slow at both attempts."""
    told: list[str] = []

    class Told(RootCommand):
        def send(self, data: bytes) -> bool:
            told.append("answered")
            return super().send(data)

        def progressed(self) -> None:
            told.append("progressed")
            super().progressed()

    link.host = replace(link.host, become=True)
    command = Told(link, "echo fleet-wants-root ann; read go; echo fleet-begin; echo fleet-wants-root ann; echo end")

    assert command.begin(wait)
    assert list(command.lines(silence_s)) == [b"end"]
    assert told == ["answered", "progressed", "progressed"]


def test_the_wait_for_the_begin_ends_when_the_caller_says_so(link: Link) -> None:
    calls: list[None] = []

    def stop() -> None:
        calls.append(None)
        if len(calls) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        RootCommand(link, "exec sleep 50").begin(stop)
