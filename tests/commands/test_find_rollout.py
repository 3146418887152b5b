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
        shell.fleet.trouble[name, Ask.LOOK].append(UNREACHABLE)

    assert shell("rollback", "-y") == 4
