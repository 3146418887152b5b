"""The journal's lock: one run at a time, free after its holder's death or silence; its loss names the new holder."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import LockHeld
from fleet.journal.database import Database
from fleet.journal.location import journal_location
from fleet.journal.lock import BEAT_S, EXPIRY_S, Holder, JournalLock, _row
from fleet.journal.process_identity import Process, this_process
from tests.journal.conftest import Hands

HERE = this_process()
ELSEWHERE = Process("another", 4711, machine="m", boot="b", space="s", start="1")
A_PID_TOO_HIGH = 2**22 + 1


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened = Database.open(journal_location(str(path)))
    yield opened
    opened.close()


class Locks:
    """Makes the locks of several runs on one journal, with one clock."""

    def __init__(self, database: Database, hands: Hands) -> None:
        self.database = database
        self.hands = hands

    def __call__(self, operator: str, rollout: str = "", process: Process = ELSEWHERE) -> JournalLock:
        me = Holder(f"of {operator}", operator, process, "upgrade", rollout, since=self.hands.now)
        return JournalLock(self.database, me, clock=self.hands, pause=self.hands.move)


@pytest.fixture
def locks(database: Database, hands: Hands) -> Locks:
    return Locks(database, hands)


def owner(lock: JournalLock) -> str | None:
    holder = lock.holder()
    return holder.operator if holder else None


def test_a_second_run_is_refused_with_all_about_the_holder(locks: Locks, hands: Hands) -> None:
    locks("ann@desk", "20261123-1000-test").acquire()
    hands.move(7)

    with pytest.raises(LockHeld) as refused:
        locks("bob@couch").acquire()

    assert refused.value.exit_code == 5
    for word in ("ann@desk", "fleet upgrade", "20261123-1000-test", "pid 4711 on another"):
        assert word in refused.value.message
    assert "since 2026-11-23 10:00:00 UTC, last heartbeat 7 s ago" in refused.value.message
    assert "expires at 10:01:00 UTC" in refused.value.message
    for way in ("--lock-wait 5m", "--force", "fleet unlock --force"):
        assert way in refused.value.remedy


def test_a_released_lock_is_free(locks: Locks) -> None:
    ann = locks("ann@desk")
    ann.acquire()
    ann.release()

    assert ann.holder() is None
    bob = locks("bob@couch")
    bob.acquire()
    assert owner(bob) == "bob@couch"


def test_releasing_a_lost_lock_does_not_free_it(locks: Locks) -> None:
    ann, bob = locks("ann@desk"), locks("bob@couch")
    ann.acquire()
    bob.acquire(force=True)

    ann.release()

    assert owner(ann) == "bob@couch"


def test_without_heartbeats_a_lock_is_held_until_it_expires(locks: Locks, hands: Hands) -> None:
    locks("ann@desk").acquire()
    bob = locks("bob@couch")

    hands.move(EXPIRY_S - 1)
    with pytest.raises(LockHeld):
        bob.acquire()
    hands.move(1)
    bob.acquire()

    assert owner(bob) == "bob@couch"


def test_heartbeats_keep_the_lock(locks: Locks, hands: Hands) -> None:
    ann = locks("ann@desk")
    ann.acquire()

    for _ in range(20):
        hands.move(BEAT_S)
        ann.beat()

    with pytest.raises(LockHeld, match="last heartbeat 0 s ago"):
        locks("bob@couch").acquire()


def test_a_heartbeat_is_written_only_once_in_an_interval(locks: Locks, hands: Hands) -> None:
    ann = locks("ann@desk")
    ann.acquire()
    began = ann.holder()

    hands.move(BEAT_S - 0.1)
    ann.beat()

    assert ann.holder() == began


def test_after_sleep_the_lock_is_renewed_if_no_other_run_took_it(locks: Locks, hands: Hands) -> None:
    ann = locks("ann@desk")
    ann.acquire()

    hands.move(8 * 3600)
    assert ann.holder() is None
    ann.beat()

    assert owner(ann) == "ann@desk"


def test_a_clock_that_was_set_back_does_not_stop_the_heartbeats(locks: Locks, hands: Hands) -> None:
    ann = locks("ann@desk")
    ann.acquire()

    hands.move(-3600)
    ann.beat()

    with pytest.raises(LockHeld, match="expires at 09:01:00"):
        locks("bob@couch").acquire()


def test_after_sleep_the_old_holder_gets_the_name_of_the_new_one(locks: Locks, hands: Hands) -> None:
    ann = locks("ann@desk")
    ann.acquire()
    hands.move(8 * 3600)
    locks("bob@couch", "another").acquire()

    with pytest.raises(LockHeld, match="taken over by bob@couch .*rollout another"):
        ann.beat()


@pytest.mark.parametrize("is_over", [False, True])
def test_the_old_holder_gets_the_name_of_a_run_that_forced_the_lock_even_after_that_run_has_ended(
    locks: Locks, hands: Hands, is_over: bool
) -> None:
    ann, bob = locks("ann@desk"), locks("bob@couch")
    ann.acquire()
    bob.acquire(force=True)
    if is_over:
        bob.release()
    hands.move(BEAT_S)

    with pytest.raises(LockHeld, match="taken over by bob@couch"):
        ann.beat()
    ann.beat()  # raises only once


def test_a_waiting_run_gets_the_lock_when_it_is_released(locks: Locks, hands: Hands, database: Database) -> None:
    ann = locks("ann@desk")
    ann.acquire()
    bob = locks("bob@couch")
    told: list[str] = []

    def pause(seconds: float) -> None:
        hands.move(seconds)
        if (hands.now - began).total_seconds() > 20:
            ann.release()

    began = hands.now
    bob._pause = pause
    bob.acquire(wait_s=300.0, on_wait=lambda holder: told.append(holder.operator))

    assert owner(bob) == "bob@couch"
    assert told == ["ann@desk"]
    assert (hands.now - began).total_seconds() < 25


def test_a_waiting_run_is_refused_when_the_wait_is_over(locks: Locks, hands: Hands) -> None:
    ann = locks("ann@desk")
    ann.acquire()
    began = hands.now

    with pytest.raises(LockHeld):
        locks("bob@couch").acquire(wait_s=30.0)

    assert (hands.now - began).total_seconds() == pytest.approx(30.0)


def test_of_eight_runs_that_take_it_at_once_one_gets_it(path: Path) -> None:
    def reach(number: int) -> bool:
        database = Database.open(journal_location(str(path)))
        me = Holder(f"token {number}", f"{number}", HERE, "upgrade", "", since=Hands().now)
        try:
            JournalLock(database, me).acquire()
        except LockHeld:
            return False
        finally:
            database.close()
        return True

    with ThreadPoolExecutor(8) as executor:
        assert sum(executor.map(reach, range(8))) == 1


def test_a_row_that_changed_since_it_was_read_is_not_overwritten(locks: Locks, database: Database) -> None:
    # What keeps two apart on a database without BEGIN IMMEDIATE.
    ann, bob = locks("ann@desk"), locks("bob@couch")
    with database.reading() as connection:
        seen = _row(connection)
    ann.acquire()
    with database.writing() as connection:
        assert not bob._write(connection, seen, bob._me, bob._clock())

    assert owner(bob) == "ann@desk"


# A dead holder


def test_a_dead_holder_on_this_machine_does_not_block(locks: Locks) -> None:
    locks("ann@desk", process=replace(HERE, pid=A_PID_TOO_HIGH)).acquire()
    bob = locks("bob@couch")

    bob.acquire()

    assert owner(bob) == "bob@couch"


def test_a_pid_that_was_given_to_another_process_is_not_the_holder(locks: Locks) -> None:
    locks("ann@desk", process=replace(HERE, start="1")).acquire()
    bob = locks("bob@couch")

    bob.acquire()

    assert owner(bob) == "bob@couch"


def test_a_live_holder_on_this_machine_keeps_the_lock(locks: Locks) -> None:
    ann = locks("ann@desk", process=HERE)
    ann.acquire()

    with pytest.raises(LockHeld):
        locks("bob@couch").acquire()

    assert owner(ann) == "ann@desk"


def test_a_killed_holder_does_not_block(path: Path) -> None:
    code = (
        "import sys; from fleet.journal.journal import Journal\n"
        "with Journal.open(sys.argv[1]) as journal:\n"
        "    journal.lock('ann@desk', 'upgrade').acquire(); print('held', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        database = Database.open(journal_location(str(path)))
        bob = JournalLock(database, Holder("bob", "bob@couch", HERE, "upgrade", "", since=Hands().now))
        with pytest.raises(LockHeld, match=f"pid {process.pid} on {socket.gethostname()}"):
            bob.acquire()

        process.kill()
        process.wait()
        bob.acquire()
        assert owner(bob) == "bob@couch"
        database.close()


# Rollback


def test_a_rollback_takes_a_free_lock(locks: Locks) -> None:
    ann = locks("ann@desk", "one")

    assert ann.take_over("one") is None
    assert owner(ann) == "ann@desk"


def test_a_rollback_takes_the_lock_from_the_rollout_that_it_undoes(locks: Locks, hands: Hands) -> None:
    ann, bob = locks("ann@desk", "one"), locks("bob@couch", "one")
    ann.acquire()

    assert bob.take_over("one") is None
    hands.move(BEAT_S)
    with pytest.raises(LockHeld, match="bob@couch"):
        ann.beat()


def test_a_rollback_leaves_the_lock_with_another_rollout_and_continues_without(locks: Locks, hands: Hands) -> None:
    ann, bob = locks("ann@desk", "one"), locks("bob@couch", "two")
    ann.acquire()

    other = bob.take_over("two")

    assert other is not None
    assert other.operator == "ann@desk"
    hands.move(BEAT_S)
    bob.beat()
    bob.release()
    assert owner(bob) == "ann@desk"


# fleet unlock


def test_forcing_a_lock_open_frees_it_and_names_the_operator_to_its_old_holder(locks: Locks, hands: Hands) -> None:
    ann, bob = locks("ann@desk"), locks("bob@couch")
    ann.acquire()

    broken = bob.force_release()

    assert broken is not None
    assert broken.operator == "ann@desk"
    assert bob.holder() is None
    assert bob.force_release() is None
    hands.move(BEAT_S)
    with pytest.raises(LockHeld, match="bob@couch"):
        ann.beat()


def test_the_lock_says_for_which_rollout_it_is_held_once_that_is_known(locks: Locks) -> None:
    ann = locks("ann@desk")
    ann.acquire()

    ann.set_rollout("one")

    holder = locks("bob@couch").holder()
    assert holder is not None
    assert (holder.operator, holder.rollout, holder.process) == ("ann@desk", "one", ELSEWHERE)
