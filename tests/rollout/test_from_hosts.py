"""Which rollout the hosts' records name."""

from fleet.rollout.from_hosts import newest
from tests.support.pretend.visits import a_fleet
from tests.support.rollout.from_hosts import a_record, look


def test_the_newest_rollout_is_the_one_whose_record_is_the_latest() -> None:
    fleet = a_fleet(3)
    fleet.hosts["web-01"].record = a_record("b", "2026-11-23T10:00:00.000Z")
    fleet.hosts["web-02"].record = a_record("a", "2026-11-24T10:00:00.000Z")

    assert newest(look(fleet)) == "a"
