"""RELEASE as the start of a hash."""

from tests.support.pretend.visits import NEW
from tests.support.shell import QUICK, Shell


def test_a_release_may_be_the_first_digits_of_a_hash_that_a_host_keeps(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK)
    shell("rollback", "-y")

    assert shell("upgrade", NEW[:8], "-y", *QUICK) == 0
    assert [host.runs for host in shell.fleet.hosts.values()] == [NEW] * 4
