"""Which rollout a command means, from the hosts' records."""

import pytest

from fleet.onhost.protocol import Ask
from tests.support.pretend.visits import NEW, UNREACHABLE
from tests.support.shell import QUICK, ROLLOUT, Shell


@pytest.mark.parametrize("wanted", ["20251231", "nonsense"])
def test_an_unknown_rollout_is_refused_with_the_known_ones(shell: Shell, wanted: str) -> None:
    shell("upgrade", NEW, "-y", *QUICK)

    assert shell("rollback", wanted, "-y") == 2
    assert ROLLOUT in shell.err
    assert shell.fleet.asked(Ask.ROLLBACK) == []


def test_a_rollback_ends_4_if_only_silent_hosts_could_know_the_rollout(shell: Shell) -> None:
    for name in shell.fleet.hosts:
        shell.fleet.outcomes[name, Ask.LOOK].append(UNREACHABLE)

    assert shell("rollback", "-y") == 4


def test_a_start_that_matches_several_rollouts_is_refused_with_all_of_them(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--limit", "web-01")
    shell("upgrade", NEW, "-y", *QUICK, "--limit", "web-02")

    assert shell("rollback", "2026", "-y") == 2

    assert f"2026 matches several rollouts: {ROLLOUT}, 20261123-1100-next." in shell.err
    assert shell.fleet.asked(Ask.ROLLBACK) == []


def test_a_silent_host_may_be_in_a_newer_rollout_that_only_the_journal_knows(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--limit", "web-01")
    shell("upgrade", NEW, "-y", *QUICK, "--limit", "web-02")
    shell.fleet.outcomes["web-02", Ask.LOOK].append(UNREACHABLE)

    assert shell("rollback", "-y") == 4

    assert f"web-02 did not answer, and may be in a newer rollout than {ROLLOUT}" in shell.err
    assert f"Name the rollout: {ROLLOUT}, or 20261123-1100-next." in shell.err
    assert shell.fleet.asked(Ask.ROLLBACK) == []


def test_a_silent_host_does_not_stop_a_rollback_of_the_newest_rollout(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    shell.fleet.outcomes["web-02", Ask.LOOK].append(UNREACHABLE)

    assert shell("rollback", "-y") == 0

    assert sorted(shell.fleet.asked(Ask.ROLLBACK)) == sorted(shell.fleet.hosts)
