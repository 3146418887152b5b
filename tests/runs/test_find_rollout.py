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
    assert [line.split()[2] for line in shell.lines] == ["20261123-1100-next", ROLLOUT]
    assert shell.fleet.asked(Ask.ROLLBACK) == []


def test_a_silent_host_may_be_in_a_newer_rollout_that_only_the_journal_knows(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--limit", "web-01")
    shell("upgrade", NEW, "-y", *QUICK, "--limit", "web-02")
    shell.fleet.outcomes["web-02", Ask.LOOK].append(UNREACHABLE)

    assert shell("rollback", "-y") == 4

    assert f"web-02 did not answer, and may be in a newer rollout than {ROLLOUT}" in shell.err
    assert [line.split()[2] for line in shell.lines if line.startswith("fleet rollback 2")] == [
        ROLLOUT,
        "20261123-1100-next",
    ]
    assert shell.fleet.asked(Ask.ROLLBACK) == []


def test_a_silent_host_does_not_stop_a_rollback_of_the_newest_rollout(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    shell.fleet.outcomes["web-02", Ask.LOOK].append(UNREACHABLE)

    assert shell("rollback", "-y") == 0

    assert sorted(shell.fleet.asked(Ask.ROLLBACK)) == sorted(shell.fleet.hosts)


def test_a_rollout_that_began_no_host_hides_no_older_one(shell: Shell) -> None:
    """The newer one was refused, because web-03 was off."""
    shell("upgrade", NEW, "-y", *QUICK, "--limit", "web-01", "--commit", "never")
    shell.fleet.off = {"web-03"}
    assert shell("upgrade", NEW, "-y", *QUICK) == 2

    assert shell("commit", "-y") == 0, shell.err

    assert f"Committed: 1 of 1 host of rollout {ROLLOUT}." in shell.err


def test_a_rollout_that_only_the_journal_knows_is_found_by_its_id(shell: Shell) -> None:
    """Its rollback keeps a run that still goes on from beginning there."""
    shell.fleet.off = {"web-03"}
    assert shell("upgrade", NEW, "-y", *QUICK) == 2

    assert shell("rollback", ROLLOUT[:11], "-y") == 0, shell.err

    assert [ROLLOUT in host.report().undone for host in shell.fleet.hosts.values()] == [True, True, False, True]


def test_the_dead_hosts_of_a_named_rollout_are_answered_for_though_no_host_has_its_record(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--limit", "web-01", "--commit", "never")
    shell.fleet.off = {"web-01"}

    assert shell("rollback", "-y") == 4
    (line,) = [line for line in shell.lines if ROLLOUT in line]
    assert shell.type(line) == 4

    assert f"Not rolled back: web-01; the reasons are above. Rolled back: 0 hosts. To try again: `{line}`." in shell.err


def test_the_hosts_that_did_not_answer_can_be_left_out_by_the_line_that_is_printed(shell: Shell) -> None:
    shell.fleet.off = {"web-02"}
    assert shell("rollback", "-y") == 4
    (line,) = [line for line in shell.lines if "-l '!web-02'" in line]

    assert shell.type(line) == 0
    assert "nothing to do" in shell.err


def test_no_line_leaves_out_every_selected_host(shell: Shell) -> None:
    shell.fleet.off = {"web-02"}

    assert shell("rollback", "-y", "-l", "web-02") == 4

    assert [line.split()[1] for line in shell.lines] == ["status"]
