"""The watcher on a clock that the test moves: which hosts roll themselves back, when, and which don't."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path

import psutil
import pytest

import fleet
from fleet.onhost.protocol import MAY_DO, PROTOCOL, Ask, Layout, Options, Request, State
from fleet.onhost.state import lease, watcher
from fleet.onhost.state.store import InstanceStore, Store
from fleet.onhost.state.watched import WATCH_LOCK, is_watched, view
from fleet.onhost.system.file_lock import holder
from fleet.onhost.system.machine import Machine
from fleet.onhost.views import WatcherView
from tests.onhost.state.test_store import a_record
from tests.support.private_nginx import wait_until


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


def watch(own: InstanceStore, go_back: Callable[[lease.Lease], bool]) -> None:
    errand = watcher.Errand("lease", lambda: lease.left_s(own), lambda is_last: lease.act_if_out(own, go_back, is_last))
    watcher.watch(own, (errand,))


def watched(own: InstanceStore, home: Home) -> Home:
    watch(own, home)
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

    watch(own, go_back)

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
    assert home.went_at[1] - home.went_at[0] == pytest.approx(watcher.RETRY_S)


def test_a_rollback_that_keeps_failing_is_given_up(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())

    home = watched(own, Home(own, clock, failures=99))

    assert len(home.went_at) == watcher.MOST_TRIES
    assert lease.lease_of(own) is None
    assert home.went_at[-1] - home.went_at[0] > 100.0


def test_a_permanent_failure_is_tried_once(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())
    tried: list[float] = []

    def hopeless(found: lease.Lease) -> bool:
        tried.append(clock.now_s)
        return False

    watch(own, hopeless)

    assert len(tried) == 1


def test_a_bug_in_the_way_back_does_not_end_the_watch(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())
    tried: list[float] = []

    def breaks(found: lease.Lease) -> bool:
        tried.append(clock.now_s)
        if len(tried) == 1:
            raise RuntimeError("a bug")
        return False

    watch(own, breaks)

    assert len(tried) == 2


def test_there_is_one_watcher(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())
    seen = []

    def second() -> None:
        seen.append(is_watched(own))
        clock.on_pause = lambda: None
        watch(own, Home(own, clock))  # comes home at once
        lease.end(own)

    clock.on_pause = second
    watched(own, Home(own, clock))

    assert seen == [True]
    assert not is_watched(own)


def test_two_errands_are_minded_and_a_bug_in_one_does_not_stop_the_other(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())
    home = Home(own, clock)

    def broken() -> float:
        raise RuntimeError("a bug")

    watcher.watch(
        own,
        (
            watcher.Errand("broken", broken, lambda is_last: False),
            watcher.Errand("lease", lambda: lease.left_s(own), lambda is_last: lease.act_if_out(own, home, is_last)),
        ),
    )

    assert home.went_at == [pytest.approx(1060.0, abs=1.0)]


def test_an_errand_that_is_done_and_still_due_is_asked_once_a_second_at_most(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request(lease_s=60.0))
    asked: list[float] = []

    def do(is_last: bool) -> bool:
        asked.append(clock.now_s)
        if len(asked) == 3:
            lease.end(own)
        return False

    watcher.watch(own, (watcher.Errand("other", lambda: 0.0, do),))

    assert [later - earlier for earlier, later in pairwise(asked)] == pytest.approx([1.0, 1.0])


def test_a_living_watcher_is_seen_every_few_seconds_and_a_dead_one_since_when(own: InstanceStore, clock: Clock) -> None:
    lease.renew(own, a_request())
    file = Path(own.folder, WATCH_LOCK)
    assert view(own) == WatcherView(False, "")
    seen: list[bool] = []

    def look() -> None:
        found = view(own)
        if found is None:
            return
        assert found.is_alive
        seen.append(found.seen_at != "1970-01-01T00:00:00.000Z")
        os.utime(file, (0, 0))

    clock.on_pause = look
    watched(own, Home(own, clock))

    assert 60.0 / watcher.BEAT_S - 1 <= seen.count(True) <= 60.0 / watcher.BEAT_S + 1
    lease.renew(own, a_request())
    os.utime(file, (0, 0))
    assert view(own) == WatcherView(False, "1970-01-01T00:00:00.000Z")


def test_where_nothing_is_owed_there_is_no_watcher_to_show(own: InstanceStore) -> None:
    assert view(own) is None


def test_a_stopped_watcher_counts_as_dead_and_the_next_one_ends_it(tmp_path: Path) -> None:
    own = Store(Machine(), str(tmp_path / "state")).instance(str(tmp_path / "nginx.pid"))
    own.begin(a_record("r1"))
    lease.renew(own, a_request(lease_s=3600.0))

    def ends(_: lease.Lease) -> bool:
        return False

    lock = f"{own.folder}/{WATCH_LOCK}"
    stopped = other_process(own)
    try:
        wait_until(lambda: (holder(own.machine, lock) or (0, 0))[0] == stopped.pid, "the watcher is there")
        os.kill(stopped.pid, signal.SIGSTOP)
        wait_until(lambda: not is_watched(own), "the watcher is stopped")
        lease.renew(own, a_request(lease_s=0.1))

        watch(own, ends)

        assert stopped.wait(10.0) == -signal.SIGKILL
    finally:
        stopped.kill()
        stopped.wait()


def test_a_watcher_is_started_once_and_ends_when_nothing_is_owed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Store(Machine(), str(tmp_path / "state")).instance(str(tmp_path / "nginx.pid"))
    own.begin(a_record("r1"))
    monkeypatch.setattr(sys, "argv", [str(an_entry(tmp_path))])
    watcher.ensure_watched(own)
    assert not is_watched(own)

    watcher.arm(own, a_request(lease_s=3600.0))
    lock = f"{own.folder}/{WATCH_LOCK}"
    wait_until(lambda: holder(own.machine, lock) is not None, "the watcher is named")
    first = holder(own.machine, lock)
    watcher.arm(own, a_request(lease_s=3600.0))

    assert first is not None
    assert holder(own.machine, lock) == first
    os.kill(first[0], signal.SIGKILL)
    wait_until(lambda: not is_watched(own), "the watcher is gone")
    watcher.ensure_watched(own)
    assert is_watched(own)
    lease.end(own)
    wait_until(lambda: not is_watched(own), "the watcher is gone")


def test_a_watcher_that_does_not_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Store(Machine(), str(tmp_path / "state")).instance(str(tmp_path / "nginx.pid"))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "missing.pyz")])

    with pytest.raises(watcher.Unwatched, match="exit code 1"):
        watcher.arm(own, a_request())


def an_entry(folder: Path) -> Path:
    """The step script as a file, from this working copy."""
    path = folder / "script.py"
    places = [str(Path(fleet.__file__).parents[1]), str(Path(psutil.__file__).parents[1])]
    path.write_text(
        f"import sys\nsys.path[:0] = {places!r}\nfrom fleet.onhost.__main__ import main\nsys.exit(main())\n"
    )
    return path


def other_process(own: InstanceStore) -> "subprocess.Popen[bytes]":
    """A watcher in another process."""
    script = an_entry(Path(own.root).parent)
    return subprocess.Popen([sys.executable, "-I", "-B", str(script), "watch", own.root, own.name])
