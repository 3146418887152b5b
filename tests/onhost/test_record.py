"""The record, the fence and the lock, on a real file system."""

import os
from pathlib import Path

import pytest

from fleet.onhost.machine import Machine
from fleet.onhost.protocol import MAY_DO, PROTOCOL, Ask, Layout, Malformed, Record, Request, State
from fleet.onhost.record import Busy, InstanceStore, Store, TakenOver, instance_name


@pytest.fixture
def own(tmp_path: Path) -> InstanceStore:
    return Store(Machine(), str(tmp_path / "state")).instance(str(tmp_path / "nginx.pid"))


def a_request(rollout: str = "r1", epoch: int = 1, *, take_over: bool = False, operator: str = "ada") -> Request:
    ask = Ask.ROLLBACK if take_over else Ask.UPGRADE
    return Request(PROTOCOL, ask, rollout, epoch, operator, None, MAY_DO[ask], Layout(), take_over=take_over)


def a_record(rollout: str = "r1", state: State = State.BEGUN) -> Record:
    return Record(rollout, 1, "ada", "b" * 64, "a" * 64, "a" * 64, "2026-11-23T10:00:00.000Z", state)


def test_what_is_wanted_is_found_again(own: InstanceStore) -> None:
    own.begin(a_record())

    assert own.record == a_record()
    assert os.stat(own.folder).st_mode & 0o077 == 0


def test_a_record_that_is_none_is_named(own: InstanceStore) -> None:
    own.make()
    Path(own.folder, "record.json").write_text('{"rollout": 1}')

    with pytest.raises(Malformed, match=r"record\.json"):
        _ = own.record


def test_a_lower_epoch_is_told_who_has_the_host(own: InstanceStore) -> None:
    own.claim(a_request("r2", 5, operator="grace"))

    with pytest.raises(TakenOver, match="grace"):
        own.claim(a_request("r1", 4))


def test_the_same_epoch_of_another_rollout_is_refused(own: InstanceStore) -> None:
    own.claim(a_request("r2", 5))

    with pytest.raises(TakenOver):
        own.claim(a_request("r1", 5))


def test_a_rollback_takes_over_whatever_its_epoch_and_its_rollout_never_begins_again(own: InstanceStore) -> None:
    """Also on a host that had not begun, whatever the two laptops' numbers say."""
    own.claim(a_request("r1", 7))

    taken = own.claim(a_request("r1", 0, take_over=True))

    assert taken == 8
    for epoch in (7, 8, 99):
        with pytest.raises(TakenOver, match="rolled back"):
            own.claim(a_request("r1", epoch))


def test_a_rollback_of_another_rollout_does_not_lock_out_the_one_in_force(own: InstanceStore) -> None:
    """It only marks its own as undone here; whoever holds this host may still commit."""
    epoch = own.claim(a_request("r2", 7))
    own.begin(a_record("r2"))

    assert own.claim(a_request("r1", 0, take_over=True)) is None

    own.check("r2", epoch or 0)
    assert own.claim(a_request("r2", 7)) == 7
    with pytest.raises(TakenOver, match="rolled back"):
        own.claim(a_request("r1", 99))


def test_a_running_visit_sees_that_it_was_taken_over(own: InstanceStore) -> None:
    epoch = own.claim(a_request("r1", 7))
    own.check("r1", epoch or 0)

    own.claim(a_request("r1", 0, take_over=True))

    with pytest.raises(TakenOver):
        own.check("r1", epoch or 0)


def test_a_new_rollout_begins_after_one_was_undone(own: InstanceStore) -> None:
    own.claim(a_request("r1", 7))
    own.claim(a_request("r1", 0, take_over=True))

    assert own.claim(a_request("r2", 9)) == 9


def test_a_second_step_script_waits_and_then_says_who_is_at_work(own: InstanceStore) -> None:
    with own.lock(0.0), pytest.raises(Busy, match=str(os.getpid())), own.lock(0.05):
        raise AssertionError("two at work")

    with own.lock(0.0):
        pass


def test_the_rollout_in_force_is_remembered_when_another_begins(own: InstanceStore) -> None:
    own.begin(a_record("r1", State.COMMITTED))
    own.begin(a_record("r2"))

    assert own.previous == a_record("r1", State.COMMITTED)


def test_a_rollout_that_was_undone_is_not_what_is_gone_back_to(own: InstanceStore) -> None:
    own.begin(a_record("r1", State.COMMITTED))
    own.begin(a_record("r2", State.ROLLED_BACK))
    own.begin(a_record("r3"))

    assert own.previous == a_record("r1", State.COMMITTED)


def test_the_last_signal_to_a_process_is_read_off_the_journal(own: InstanceStore) -> None:
    own.note(signal="SIGHUP", pid=5, start=1)
    own.note(signal="SIGWINCH", pid=5, start=1)
    own.note(signal="SIGQUIT", pid=6, start=1)

    last = own.last_signal(5, 1, ("SIGWINCH", "SIGHUP"))

    assert last is not None
    assert last["signal"] == "SIGWINCH"
    assert own.last_signal(5, 1, ("SIGQUIT",)) is None
    assert own.last_signal(5, 2, ("SIGWINCH",)) is None


def test_a_release_is_kept_by_its_hash_and_once(tmp_path: Path) -> None:
    machine = Machine()
    store = Store(machine, str(tmp_path / "state"))
    binary = tmp_path / "nginx"
    binary.write_bytes(b"a binary")
    binary.chmod(0o755)
    sha256 = str(machine.sha256(str(binary)))

    store.keep(str(binary), sha256)
    first = os.stat(store.release(sha256)).st_ino
    store.keep(str(binary), sha256)

    assert store.has(sha256)
    assert os.stat(store.release(sha256)).st_ino == first
    with pytest.raises(OSError, match="changed"):
        store.keep(str(binary), "0" * 64)


def test_an_instance_is_known_by_the_real_path_of_its_pid_file(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "var").symlink_to(tmp_path / "run")
    machine = Machine()

    same = instance_name(machine, f"{tmp_path}/var/nginx.pid")

    assert same == instance_name(machine, f"{tmp_path}/run/nginx.pid")
    assert same != instance_name(machine, f"{tmp_path}/run/other.pid")
