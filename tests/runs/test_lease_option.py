"""`--lease`: a lease that a rollout can't keep alive is refused before any host is contacted."""

import pytest

from fleet.errors import Refused
from fleet.rollout.policy import Policy
from fleet.runs.lease_option import check_lease, check_lease_renewal
from tests.support.pretend.visits import NEW
from tests.support.shell import Shell


@pytest.mark.parametrize("lease_s", [0.1, 9.9])
def test_a_lease_shorter_than_the_time_between_two_visits_is_refused(lease_s: float) -> None:
    with pytest.raises(Refused, match="too short") as refused:
        check_lease(lease_s)

    assert refused.value.remedy == "Allowed: 10s or more, or off."


@pytest.mark.parametrize("lease_s", [0.0, 10.0, 600.0])
def test_no_lease_and_a_long_enough_one_are_accepted(lease_s: float) -> None:
    assert check_lease(lease_s) == lease_s


def test_more_leases_than_the_parallel_visits_can_renew_are_refused() -> None:
    policy = Policy(parallel=1, lease_s=10.0)

    assert check_lease_renewal(policy, 2) is policy
    with pytest.raises(Refused, match="--parallel 1 can't renew 3 leases of 10 s in time") as refused:
        check_lease_renewal(policy, 3)
    assert "--lease off" in refused.value.remedy


def test_without_a_lease_any_number_of_hosts_is_accepted() -> None:
    policy = Policy(parallel=1, lease_s=0.0)

    assert check_lease_renewal(policy, 10_000) is policy


@pytest.mark.parametrize("words", [("--lease", "5s"), ("--lease", "10s", "--parallel", "1")])
def test_an_upgrade_with_such_a_lease_contacts_no_host(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell("upgrade", NEW, "-y", *words) == 2

    assert "--lease" in shell.err
    assert shell.fleet.calls == []
