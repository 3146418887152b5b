"""The lease on a clock that the test moves: which hosts roll themselves back, when, and which don't."""

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from fleet.onhost.protocol import MAY_DO, PROTOCOL, Ask, Layout, Options, Request, State
from fleet.onhost.state import lease
from fleet.onhost.state.store import InstanceStore, Store
from fleet.onhost.system.machine import Machine
from tests.onhost.state.test_store import a_record


class Clock(Machine):
    """A host on which a pause is over at once; `on_pause` is called in it."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.boot = "boot-1"
        self.on_pause: Callable[[], None] = lambda: None

    def boottime_s(self) -> float:
        return self.now_s

    def boot_id(self) -> str:
        return self.boot

    def pause(self, seconds: float = 0.01) -> None:
        self.now_s += seconds
        self.on_pause()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def own(clock: Clock, tmp_path: Path) -> InstanceStore:
    own = Store(clock, str(tmp_path / "state")).instance(str(tmp_path / "nginx.pid"))
    own.begin(a_record("r1"))
    return own


def a_request(lease_s: float = 60.0) -> Request:
    plain = Request(PROTOCOL, Ask.UPGRADE, "r1", 1, "ada", None, MAY_DO[Ask.UPGRADE], Layout(), Options(settle_s=0.5))
    return plain._replace(lease_s=lease_s)


class Home:
    """Rolls back when it is called, and keeps the time of the call."""

    def __init__(self, own: InstanceStore, clock: Clock, failures: int = 0) -> None:
        self.own, self.clock, self.failures = own, clock, failures
        self.went_at: list[float] = []

    def __call__(self, found: lease.Lease) -> bool:
        self.went_at.append(self.clock.now_s)
        assert found.options.settle_s == 0.5
        if len(self.went_at) > self.failures:
            self.own.begin(a_record("r1", State.ROLLED_BACK))
            lease.end(self.own)
            return False
        return True


def watched(own: InstanceStore, home: Home) -> Home:
    lease.watch(own, lambda: None, home)
    return home


def test_a_lease_that_runs_out_takes_the_host_back_once_and_on_time(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())

    home = watched(own, Home(own, clock))

    assert home.went_at == [pytest.approx(1060.0, abs=1.0)]
    assert lease.left_s(own) is None


@pytest.mark.parametrize("jump_s", [-1e6, 1e6], ids=["backwards", "forwards"])
def test_a_wall_clock_that_is_set_changes_nothing(
    jump_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On this machine's own clocks: the wall clock jumps again at each reading, by more than any delay of a busy machine."""
    own = Store(Machine(), str(tmp_path / "state")).instance(str(tmp_path / "nginx.pid"))
    own.begin(a_record("r1"))
    jumps = count(1)
    monkeypatch.setattr(time, "time", lambda: 1.8e9 + jump_s * next(jumps))
    lease.renew(own, a_request(lease_s=0.4))
    due_s = time.clock_gettime(time.CLOCK_BOOTTIME) + 0.4
    went_s: list[float] = []

    def go_back(_: lease.Lease) -> bool:
        went_s.append(time.clock_gettime(time.CLOCK_BOOTTIME))
        return False

    lease.watch(own, lambda: None, go_back)

    (went,) = went_s
    assert due_s - 0.1 <= went < due_s + abs(jump_s)


def test_a_renewed_lease_runs_from_its_renewal(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())
    renewals = iter((1030.0, 1080.0, 1130.0))
    due = [next(renewals)]

    def renew() -> None:
        if due and clock.now_s >= due[0]:
            lease.renew(own, a_request())
            due[:] = [at for at in (next(renewals, 0.0),) if at]

    clock.on_pause = renew

    assert watched(own, Home(own, clock)).went_at == [pytest.approx(1190.0, abs=2.0)]


def test_a_commit_ends_the_watch(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())
    clock.on_pause = lambda: lease.end(own)

    assert watched(own, Home(own, clock)).went_at == []


def test_a_record_that_was_settled_in_the_meantime_is_left_alone(own: InstanceStore, clock: Clock) -> None:
    """The commit's last act did not get to the lease: the record says that nothing is owed."""
    lease.renew(own, a_request())
    own.write_record(a_record("r1", State.COMMITTED))

    assert watched(own, Home(own, clock)).went_at == []
    assert lease.lease_of(own) is None


def test_a_reboot_voids_the_lease(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())
    clock.boot = "boot-2"

    assert watched(own, Home(own, clock)).went_at == []


def test_a_failed_rollback_is_tried_again_while_the_lease_lasts(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())

    home = watched(own, Home(own, clock, failures=2))

    assert len(home.went_at) == 3
    assert home.went_at[1] - home.went_at[0] == pytest.approx(lease.RETRY_S)


def test_a_rollback_that_keeps_failing_is_given_up(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())

    home = watched(own, Home(own, clock, failures=99))

    assert len(home.went_at) == lease.MOST_TRIES
    assert lease.lease_of(own) is None
    assert home.went_at[-1] - home.went_at[0] > 100.0


def test_a_permanent_failure_is_tried_once(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())
    tried: list[float] = []

    def hopeless(found: lease.Lease) -> bool:
        tried.append(clock.now_s)
        return False

    lease.watch(own, lambda: None, hopeless)

    assert len(tried) == 1


def test_a_bug_in_the_way_back_does_not_end_the_watch(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())
    tried: list[float] = []

    def breaks(found: lease.Lease) -> bool:
        tried.append(clock.now_s)
        if len(tried) == 1:
            raise RuntimeError("a bug")
        return False

    lease.watch(own, lambda: None, breaks)

    assert len(tried) == 2


def test_a_visit_that_wants_no_lease_ends_the_one_that_runs(own: InstanceStore) -> None:
    """A resume of another laptop without one must not leave the dead laptop's ticking."""
    lease.renew(own, a_request())

    lease.renew(own, a_request(lease_s=0.0))

    assert lease.lease_of(own) is None


def test_no_lease_is_written_unless_one_is_wanted(own: InstanceStore) -> None:
    lease.renew(own, a_request(lease_s=0.0))

    assert lease.lease_of(own) is None


def test_there_is_one_watcher(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())
    seen = []

    def second() -> None:
        seen.append(lease.is_watched(own))
        lease.watch(own, lambda: None, Home(own, clock))  # comes home at once
        lease.end(own)

    clock.on_pause = second
    watched(own, Home(own, clock))

    assert seen == [True]
    assert not lease.is_watched(own)
