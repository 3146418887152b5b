"""RELEASE as the start of a hash that the hosts keep."""

import os
import signal

from fleet.onhost.protocol import Ask
from fleet.task import HostTask
from tests.support.pretend.visits import NEW
from tests.support.shell import QUICK, Shell


def test_a_release_may_be_the_first_digits_of_a_hash_that_a_host_keeps(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK)
    shell("rollback", "-y")

    assert shell("upgrade", NEW[:8], "-y", *QUICK) == 0
    assert [host.runs for host in shell.fleet.hosts.values()] == [NEW] * 4


def test_digits_that_match_several_releases_are_refused_with_all_of_them(shell: Shell) -> None:
    first, second = "c" * 8 + "1" * 56, "c" * 8 + "2" * 56
    shell.fleet.hosts["web-01"].runs = first
    shell.fleet.hosts["web-02"].runs = second

    assert shell("upgrade", "c" * 8, "-y", *QUICK) == 2

    assert f"{'c' * 8} matches several releases: {first[:16]}, {second[:16]}. Type more digits." in shell.err
    assert shell.fleet.asked(Ask.STAGE) == []


def test_ctrl_c_while_the_hosts_are_asked_for_the_release_changes_nothing(shell: Shell) -> None:
    def interrupt(task: HostTask) -> None:
        if task.host.name == "web-01":
            os.kill(os.getpid(), signal.SIGINT)

    shell.fleet.on_visit = interrupt

    assert shell("upgrade", NEW[:8], "-y", "--parallel", "1") == 130
    assert "Interrupted while asking the hosts for that release. Nothing was changed." in shell.err
    assert shell.fleet.asked(Ask.STAGE) == []
