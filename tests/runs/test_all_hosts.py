"""Commit and rollback on all hosts of a rollout."""

from fleet.onhost.protocol import Ask, Phase
from tests.support.pretend.visits import NEW, UNREACHABLE
from tests.support.shell import QUICK, ROLLOUT, Shell


def test_held_hosts_are_committed_and_then_rolled_back(shell: Shell) -> None:
    assert shell("upgrade", NEW, "-y", *QUICK, "--commit", "never") == 0
    assert [host.phase() for host in shell.fleet.hosts.values()] == [Phase.TRIAL] * 4

    assert shell("commit", "-y") == 0
    assert [host.phase() for host in shell.fleet.hosts.values()] == [Phase.NEW] * 4

    assert shell("rollback", ROLLOUT[:8], "-y") == 0
    assert [host.phase() for host in shell.fleet.hosts.values()] == [Phase.OLD] * 4
    assert ROLLOUT in shell.err


def test_commit_and_rollback_do_nothing_if_no_host_has_a_record(shell: Shell) -> None:
    for command in ("commit", "rollback"):
        assert shell(command, "-y") == 0
        assert "nothing to do" in shell.err

    assert {ask for _, ask in shell.fleet.calls} == {Ask.LOOK}


def test_a_rollback_with_a_dead_host_rolls_the_others_back_and_ends_4(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK)
    for ask in (Ask.LOOK, Ask.ROLLBACK):
        shell.fleet.outcomes["web-02", ask].extend([UNREACHABLE] * 99)

    assert shell("rollback", "-y") == 4

    phases = {name: host.phase() for name, host in shell.fleet.hosts.items()}
    assert phases == {"web-01": Phase.OLD, "web-02": Phase.NEW, "web-03": Phase.OLD, "web-04": Phase.OLD}
    assert "web-02" in shell.err
