"""`fleet commit`: what its options make of the requests, and what is refused before a host is asked."""

from fleet.onhost.protocol import Ask, Phase
from tests.support.pretend.visits import NEW
from tests.support.shell import QUICK, Shell

HELD = ("upgrade", NEW, "-y", *QUICK, "--commit", "never")


def test_a_commit_that_waits_leaves_nothing_to_the_hosts(shell: Shell) -> None:
    shell(*HELD)

    assert shell("commit", "-y") == 0

    assert asked_within_s(shell) == {0.0}


def test_a_commit_when_drained_gives_each_host_its_deadline(shell: Shell) -> None:
    shell(*HELD)
    for host in shell.fleet.hosts.values():
        host.drains_on = True

    assert shell("commit", "-y", "--when-drained", "--within", "12h") == 0

    assert asked_within_s(shell) == {43200.0}
    assert {host.phase() for host in shell.fleet.hosts.values()} == {Phase.TRIAL}
    assert "in 12h at the latest" in shell.err + shell.out


def test_an_upgrade_may_end_with_such_a_commit(shell: Shell) -> None:
    assert shell("upgrade", NEW, "-y", *QUICK, "--commit", "when-drained", "--within", "90m") == 0

    assert asked_within_s(shell) == {5400.0}
    assert {host.phase() for host in shell.fleet.hosts.values()} == {Phase.NEW}


def test_a_rollback_of_it_leaves_nothing_to_the_hosts(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "when-drained")
    shell.fleet.tasks.clear()

    assert shell("rollback", "-y") == 0

    assert {task.request.options.retire_within_s for task in shell.fleet.tasks} == {0.0}


def test_a_deadline_that_is_off_is_refused_and_no_host_is_asked(shell: Shell) -> None:
    for words in (("commit", "-y", "--when-drained"), ("upgrade", NEW, "-y", "--commit", "when-drained")):
        assert shell(*words, "--within", "off") == 2

        assert "--within can't be off" in shell.err
        assert shell.fleet.calls == []


def test_a_deadline_for_a_commit_that_fleet_waits_for_is_refused(shell: Shell) -> None:
    for words in (("commit", "-y"), ("upgrade", NEW, "-y")):
        assert shell(*words, "--within", "2h") == 2

        assert "--within is for a commit that is left to the hosts" in shell.err
        assert shell.fleet.calls == []


def asked_within_s(shell: Shell) -> set[float]:
    """The deadlines of the commits that the hosts were asked for, in seconds."""
    return {task.request.options.retire_within_s for task in shell.fleet.tasks if task.request.ask is Ask.COMMIT}
