"""The record and the host's journal, on a real file system."""

import os
from pathlib import Path

import pytest

from fleet.onhost.protocol import Record, State
from fleet.onhost.state import store
from fleet.onhost.state.store import InstanceStore, Store, instance_name
from fleet.onhost.system.machine import Machine
from fleet.onhost.wire import Malformed


@pytest.fixture
def own(tmp_path: Path) -> InstanceStore:
    return Store(Machine(), str(tmp_path / "state")).instance(str(tmp_path / "nginx.pid"))


def a_record(rollout: str = "r1", state: State = State.BEGUN) -> Record:
    return Record(rollout, 1, "ada", "b" * 64, "a" * 64, "a" * 64, "2026-11-23T10:00:00.000Z", state)


def test_a_stored_record_is_found_again(own: InstanceStore) -> None:
    own.begin(a_record())

    assert own.record == a_record()
    assert os.stat(own.folder).st_mode & 0o077 == 0


def test_an_inode_may_have_all_of_its_64_bits(own: InstanceStore) -> None:
    """As on some file systems of the network: the place in the error log would be forgotten."""
    own.make()
    own.save("serving.json", store.Serving(log_inode=2**64 - 1, log_offset=7))

    assert own.serving == store.Serving(log_inode=2**64 - 1, log_offset=7)


def test_a_record_that_is_none_is_named(own: InstanceStore) -> None:
    own.make()
    Path(own.folder, "record.json").write_text('{"rollout": 1}')

    with pytest.raises(Malformed, match=r"record\.json"):
        _ = own.record


def test_the_rollout_in_force_is_remembered_when_another_begins(own: InstanceStore) -> None:
    own.begin(a_record("r1", State.COMMITTED))
    own.begin(a_record("r2"))

    assert own.previous == a_record("r1", State.COMMITTED)


def test_an_undone_rollout_is_no_target_of_a_rollback(own: InstanceStore) -> None:
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


def test_a_torn_last_line_costs_no_other_line(own: InstanceStore) -> None:
    own.note(signal="SIGWINCH", pid=5, start=1)
    with Path(own.folder, "journal.jsonl").open("a") as journal:
        journal.write('{"signal": "SIGH')
    own.note(signal="SIGUSR1", pid=5, start=1)

    found = [own.last_signal(5, 1, (name,)) for name in ("SIGWINCH", "SIGUSR1")]

    assert [one["signal"] for one in found if one] == ["SIGWINCH", "SIGUSR1"]


def test_a_full_journal_makes_way_and_its_last_signals_are_still_known(
    own: InstanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST_JOURNAL_BYTES", 100)
    own.note(signal="SIGWINCH", pid=5, start=1, much="x" * 100)
    own.tidy()
    own.note(signal="SIGUSR1", pid=5, start=1)

    assert sorted(path.name for path in Path(own.folder).iterdir()) == ["journal.jsonl", "journal.jsonl.1"]
    assert own.last_signal(5, 1, ("SIGWINCH",)) is not None
    assert own.last_signal(5, 1, ("SIGUSR1",)) is not None


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


def test_an_intent_is_flushed_with_all_before_it_and_the_rest_at_the_end(
    own: InstanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    really = os.fsync

    def fsync(number: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{number}").read_text() if os.path.isfile(f"/proc/self/fd/{number}") else "")
        really(number)

    monkeypatch.setattr(os, "fsync", fsync)
    own.note(result="stage")
    assert flushed == []

    own.note(intent="swap")
    own.note(signal="SIGUSR2")
    assert [("stage" in text, "swap" in text) for text in flushed] == [(True, True)]

    own.flush()
    assert [("swap" in text, "SIGUSR2" in text) for text in flushed[1:]] == [(True, True)]


def test_what_is_void_after_a_boot_is_not_flushed_and_all_else_is(
    own: InstanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.make()
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)

    own.save("lease.json", a_record(), lasting=False)
    own.drop("lease.json")
    assert flushed == []

    own.write_record(a_record())
    assert len(flushed) == 2  # the file and its folder
