"""The lease on the disk: when it is written, and when it is in force."""

from pathlib import Path

import pytest

from fleet.onhost.state import lease
from fleet.onhost.state.store import InstanceStore, Store
from tests.onhost.state.test_store import a_record
from tests.onhost.state.test_watcher import Clock, a_request


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def own(clock: Clock, tmp_path: Path) -> InstanceStore:
    own = Store(clock, str(tmp_path / "state")).instance(str(tmp_path / "nginx.pid"))
    own.begin(a_record("r1"))
    return own


def test_a_visit_that_wants_no_lease_ends_the_one_that_runs(own: InstanceStore) -> None:
    """A resume of another laptop without one must not leave the dead laptop's ticking."""
    lease.renew(own, a_request())

    lease.renew(own, a_request(lease_s=0.0))

    assert lease.lease_of(own) is None


def test_no_lease_is_written_unless_one_is_wanted(own: InstanceStore) -> None:
    lease.renew(own, a_request(lease_s=0.0))

    assert lease.lease_of(own) is None


def test_a_lease_ends_at_its_time_at_its_end_and_at_a_boot(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())
    clock.now_s += 20.0
    assert lease.left_s(own) == 40.0
    clock.now_s += 50.0
    assert lease.left_s(own) == 0.0

    clock.boot = "boot-2"
    assert lease.left_s(own) is None
    clock.boot = "boot-1"
    lease.end(own)
    assert lease.left_s(own) is None
