"""Failure modes of nginx's own upgrade, each made on purpose on a real nginx of this machine: its word, and what is left.

What must happen between two looks of the step script (at the very USR2, at the very WINCH) comes by another `Machine`.
"""

import hashlib
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet.lab.releases.build import make_release
from fleet.onhost.protocol import Ask, Outcome, Phase, Reply, ReplyType, Report, Step
from fleet.onhost.steps import forward, launch
from fleet.onhost.system.machine import Machine
from fleet.onhost.visit.end import End
from tests.onhost.visit.test_dispatch import Host, is_as_before
from tests.support.private_nginx import PrivateNginx, stop, wait_until


@dataclass
class Heard(Host):
    """A host whose warnings are listened to."""

    words: list[str] = field(default_factory=list)
    remedies: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)

    def _say(self, reply: Reply) -> None:
        super()._say(reply)
        if reply.type is ReplyType.FINDING:
            self.words.append(str(reply.reason))
            self.remedies[str(reply.reason)] = reply.remedy
            self.messages[str(reply.reason)] = reply.message

    @property
    def journal(self) -> str:
        return next(self.state_dir.glob("instances/*/journal.jsonl")).read_text()

    def store(self, release: Path) -> None:
        """The release is the target, and lies in the store."""
        self.target = hashlib.sha256(release.read_bytes()).hexdigest()
        stored = self.state_dir / "releases" / self.target / "nginx"
        stored.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(release, stored)

    def after(self, step: Step, act: Callable[[], object]) -> Callable[[], None]:
        """A `go_on` that does this once, when that step is done."""
        done: list[Step] = []

        def go_on() -> None:
            if (step, Outcome.DONE) in self.steps and not done:
                done.append(step)
                act()

        return go_on


class Just(Machine):
    """Something happens just before the first signal of this kind is sent."""

    def __init__(self, signum: int, act: Callable[[int], object]) -> None:
        self.signum = signum
        self.act = act
        self.done = False

    def signal(self, pid: int, start: int, signum: int) -> None:
        if signum == self.signum and not self.done:
            self.done = True
            self.act(pid)
        super().signal(pid, start, signum)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


@pytest.fixture
def host(tmp_path: Path, release: Path) -> Iterator[Heard]:
    found = Heard(PrivateNginx(tmp_path).start_well(), "")
    found.store(release)
    yield found
    found.nginx.end()


def upgraded(host: Heard, go_on: Callable[[], None] = lambda: None) -> tuple[End, Report]:
    return host.visit(Ask.UPGRADE, go_on)


def held(host: Heard) -> int:
    """The host is held; the pid of its old master."""
    master = host.nginx.master()
    end, report = upgraded(host)
    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.TRIAL), end
    return master


def comes_back(host: Heard, master: int) -> Report:
    """A rollback ends well, with the same master, its two workers and an answer."""
    end, report = host.visit(Ask.ROLLBACK)
    assert end.outcome is Outcome.DONE, end
    assert [view.pid for view in report.masters] == [master]
    wait_until(lambda: len(host.nginx.workers(master)) == 2, "one set of workers")
    assert b"ok" in host.nginx.get()
    return report


# A launch that fails


def edit(host: Heard, before: str, after: str) -> None:
    config = host.nginx.folder / "conf" / "nginx.conf"
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after))


def replaced_by(host: Heard, tmp_path: Path, kind: str) -> None:
    host.nginx.install(make_release(kind, tmp_path / kind))


FAULTS: dict[str, Callable[[Heard, Path], object]] = {
    "exec_missing": lambda host, _: host.nginx.binary.unlink(),
    "exec_format": lambda host, tmp: replaced_by(host, tmp, "wrong-arch"),
    "start_crashed": lambda host, tmp: replaced_by(host, tmp, "truncated"),
    "library_missing": lambda host, tmp: replaced_by(host, tmp, "missing-lib"),
    "config_rejected": lambda host, _: edit(host, "worker_processes 2;", "worker_processes 2; nonsense on;"),
    "other_pid_file": lambda host, _: edit(host, "logs/nginx.pid", "logs/other.pid"),
}


@pytest.mark.parametrize("word", FAULTS)
def test_a_start_that_fails_at_usr2_has_its_word_and_leaves_all_as_it_was(
    word: str, host: Heard, tmp_path: Path
) -> None:
    before, master = host.sha256(), host.nginx.master()
    host.machine = Just(signal.SIGUSR2, lambda _: FAULTS[word](host, tmp_path))

    end, report = upgraded(host)

    assert (end.outcome, end.reason) == (Outcome.FAILED, word), end
    assert end.remedy
    is_as_before(host, report, before, master)
    assert b"ok" in host.nginx.get()
    assert host.nginx.master() == master
    assert not (host.nginx.folder / "logs" / "other.pid").exists()


def test_the_other_pid_file_is_named(host: Heard, tmp_path: Path) -> None:
    host.machine = Just(signal.SIGUSR2, lambda _: FAULTS["other_pid_file"](host, tmp_path))

    assert str(host.nginx.folder / "logs" / "other.pid") in upgraded(host)[0].message


def test_a_port_that_is_taken_just_then_is_waited_for_and_named(host: Heard) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        before, master = host.sha256(), host.nginx.master()
        host.machine = Just(signal.SIGUSR2, lambda _: edit(host, "server {", f"server {{ listen 127.0.0.1:{port};"))

        end, report = upgraded(host)

    assert end.reason == "listener_busy", end
    assert f"127.0.0.1:{port}" in end.message
    is_as_before(host, report, before, master)


@pytest.mark.parametrize("at_usr2", [False, True])
def test_a_file_that_may_not_be_executed_is_repaired_and_tried_once_more(at_usr2: bool, host: Heard) -> None:
    mode = host.nginx.binary.stat().st_mode

    def forbid() -> None:
        host.nginx.binary.chmod(0o600)

    if at_usr2:
        host.machine = Just(signal.SIGUSR2, lambda _: forbid())
    end, report = upgraded(host, (lambda: None) if at_usr2 else host.after(Step.SWAP, forbid))

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.TRIAL), end
    assert "file_mended" in host.words
    assert host.nginx.binary.stat().st_mode == mode


def test_a_file_that_may_not_be_executed_also_after_that_is_given_up(host: Heard) -> None:
    before, master = host.sha256(), host.nginx.master()

    class Unlucky(Machine):
        def exchange(self, one: str, other: str) -> bool:
            return super().exchange(one, other) and self.spoil(other)

        def rename(self, source: str, target: str) -> None:
            super().rename(source, target)
            self.spoil(target)

        def spoil(self, path: str) -> bool:
            if path == str(host.nginx.binary) and host.sha256() == host.target:
                host.nginx.binary.chmod(0o600)
            return True

    host.machine = Unlucky()
    end, report = upgraded(host)

    assert end.reason == "exec_denied", end
    is_as_before(host, report, before, master)


def test_without_a_log_the_binary_itself_shows_why_it_did_not_start(host: Heard) -> None:
    class Logless(Machine):
        def stat(self, path: str) -> os.stat_result | None:
            return None if path.endswith("/fd/2") else super().stat(path)

    host.machine = Logless()

    end, report = upgraded(host, host.after(Step.SWAP, lambda: host.nginx.binary.chmod(0o600)))

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.TRIAL), end
    assert "file_mended" in host.words


class Slow(Machine):
    """nginx reads a FIFO in place of a file, so that it reads its configuration as long as `waits` is not over."""

    def __init__(self, fifo: Path, waits_s: float) -> None:
        self.fifo = fifo
        self.waits_s = waits_s
        self.sent_s = 0.0

    def signal(self, pid: int, start: int, signum: int) -> None:
        if signum == signal.SIGUSR2:
            os.mkfifo(self.fifo)
            self.sent_s = self.monotonic_s()
        super().signal(pid, start, signum)

    def pause(self, seconds: float = 0.01) -> None:
        if self.sent_s and self.monotonic_s() - self.sent_s > self.waits_s:
            with suppress(OSError):  # No reader yet.
                os.close(os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK))
                self.sent_s = 0.0
        super().pause(seconds)


def test_a_new_master_that_reads_its_configuration_for_long_is_waited_for(
    host: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "LAUNCH_SEEN_S", 0.5)
    host.machine = Slow(host.nginx.folder / "conf" / "more.conf", waits_s=1.0)
    edit(host, "events {", "include more*.conf; events {")

    end, report = upgraded(host)

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.TRIAL), end


def test_a_new_master_that_never_reads_to_the_end_is_given_up(host: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "LAUNCH_SEEN_S", 0.3)
    monkeypatch.setattr(launch, "READING_S", 0.3)
    before, master = host.sha256(), host.nginx.master()
    host.machine = Slow(host.nginx.folder / "conf" / "more.conf", waits_s=3600.0)
    edit(host, "events {", "include more*.conf; events {")

    end, report = upgraded(host)

    assert (end.outcome, end.reason) == (Outcome.FAILED, "launch_slow"), end
    is_as_before(host, report, before, master)


@pytest.mark.parametrize("at_usr2", [False, True])
def test_a_file_that_is_open_for_writing_is_waited_for(at_usr2: bool, host: Heard) -> None:
    timers = []

    def write_for_a_while() -> None:
        sink = host.nginx.binary.open("ab")
        timers.append(threading.Timer(1.0, sink.close))
        timers[-1].start()

    if at_usr2:
        host.machine = Just(signal.SIGUSR2, lambda _: write_for_a_while())
    end, report = upgraded(host, (lambda: None) if at_usr2 else host.after(Step.SWAP, write_for_a_while))

    for timer in timers:
        timer.join()
    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.TRIAL), end
    assert "text_was_busy" in host.words


def test_a_pid_file_that_goes_just_then_poisons_the_master_and_a_second_usr2_cures_it(host: Heard) -> None:
    host.machine = Just(signal.SIGUSR2, lambda _: host.nginx.pid_file.unlink())
    master = host.nginx.master()

    end, report = upgraded(host)

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.TRIAL), end
    assert "pid_file_rewritten" in host.words
    assert host.nginx.logged(r"rename\(\) .*failed before executing new binary process")
    assert report.record is not None
    assert report.record.poisoned is None
    comes_back(host, master)
    before = host.nginx.workers(master)
    os.kill(master, signal.SIGHUP)
    wait_until(lambda: not set(before) & set(host.nginx.workers(master)), "a reload that is one")
    assert len(host.nginx.workers(master)) == 2


# New workers that are bad


@pytest.mark.parametrize(
    ("kind", "word"),
    [("crash-workers", "workers_crash"), ("hang-workers", "workers_silent"), ("hung-master", "workers_missing")],
)
def test_bad_new_workers_have_a_reason_of_their_own(kind: str, word: str, host: Heard, tmp_path: Path) -> None:
    before, master = host.sha256(), host.nginx.master()
    host.store(make_release(kind, tmp_path / "bad"))

    end, report = upgraded(host)

    assert (end.outcome, end.reason) == (Outcome.FAILED, word), end
    is_as_before(host, report, before, master)
    if kind == "crash-workers":
        assert '"SIGQUIT"' not in host.journal, "QUIT lets a crash loop go on writing to the disk"


@pytest.mark.parametrize("step", [Step.LAUNCH, Step.VERIFY])
def test_a_stopped_new_master_is_found_and_woken_to_leave(step: Step, host: Heard) -> None:
    before, master = host.sha256(), host.nginx.master()

    end, report = upgraded(host, host.after(step, lambda: stop(host.nginx.master())))
    if step is Step.VERIFY:
        assert report.phase is Phase.TRIAL
        host.steps.clear()
        end, report = host.visit(Ask.BAKE)
        comes_back(host, master)
        end_word = end.reason
    else:
        is_as_before(host, report, before, master)
        end_word = end.reason

    assert end_word == "new_master_hangs", end
    assert "new_master_woken" in host.words


# Reloads and signals from outside


def test_a_second_hup_doubles_the_workers_and_one_reload_makes_them_one_set(host: Heard) -> None:
    master = held(host)
    for count in (2, 4):
        os.kill(master, signal.SIGHUP)
        wait_until(lambda count=count: len(host.nginx.workers(master)) == count, f"{count} workers")  # type: ignore[misc]

    comes_back(host, master)

    assert [word for word in host.words if word.startswith("workers_")] == ["workers_doubled", "workers_normal"]


def test_a_reload_of_the_old_master_before_drain_is_reported_and_drained(host: Heard) -> None:
    master = host.nginx.master()

    def reload() -> None:
        os.kill(master, signal.SIGHUP)
        wait_until(lambda: len(host.nginx.workers(master)) == 4, "a doubled set")

    end, report = upgraded(host, host.after(Step.LAUNCH, reload))

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.TRIAL), end
    assert "workers_doubled" in host.words
    assert host.nginx.workers(master) == []


class Together(Machine):
    """The first WINCH comes together with an operator's HUP: it is put off until the master's next wake-up."""

    done = False

    def signal(self, pid: int, start: int, signum: int) -> None:
        if signum != signal.SIGWINCH or self.done:
            super().signal(pid, start, signum)
            return
        self.done = True
        stop(pid)
        os.kill(pid, signal.SIGHUP)
        super().signal(pid, start, signum)
        os.kill(pid, signal.SIGCONT)


def test_winch_and_hup_together_while_held_cost_nothing_going_back(host: Heard) -> None:
    master = held(host)
    stop(master)
    for signum in (signal.SIGHUP, signal.SIGWINCH, signal.SIGCONT):
        os.kill(master, signum)
    wait_until(lambda: len(host.nginx.workers(master)) == 2, "revived workers, with a WINCH to come")

    comes_back(host, master)


def test_a_winch_that_a_reload_puts_off_is_made_to_happen(host: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "DRAIN_SEEN_S", 1.0)
    master = host.nginx.master()
    host.machine = Together()

    end, report = upgraded(host)

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.TRIAL), end
    assert "winch_put_off" in host.words
    assert host.nginx.workers(master) == []
    comes_back(host, master)


class Lost(Machine):
    """The old master gets neither WINCH nor USR1: as if both waited in it for a wake-up."""

    def signal(self, pid: int, start: int, signum: int) -> None:
        if signum not in (signal.SIGWINCH, signal.SIGUSR1):
            super().signal(pid, start, signum)


def test_both_masters_stay_while_a_winch_may_still_arrive(host: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the new master would wake the old one up, which would then drain the only workers that are left."""
    monkeypatch.setattr(forward, "DRAIN_SEEN_S", 0.2)
    monkeypatch.setattr(forward, "USR1_SEEN_S", 0.2)
    master = host.nginx.master()
    host.machine = Lost()

    end, report = upgraded(host)

    assert (end.outcome, end.reason, report.phase) == (Outcome.FAILED, "drain_unseen", Phase.OVERLAP), end
    assert host.nginx.master() != master
    assert all(len(host.nginx.workers(pid)) == 2 for pid in (master, host.nginx.master()))


def test_a_log_rotation_that_reached_only_the_new_master_is_made_up_for(host: Heard) -> None:
    master = held(host)
    rotated = host.nginx.log.rename(host.nginx.log.with_name("error.log.1"))
    os.kill(host.nginx.master(), signal.SIGUSR1)
    wait_until(host.nginx.log.exists, "a new log")
    host.visit(Ask.BAKE)
    assert "log_rotated" in host.words
    assert os.readlink(f"/proc/{master}/fd/2") == str(rotated)

    comes_back(host, master)

    assert "log_reopened" in host.words
    assert {os.readlink(f"/proc/{pid}/fd/2") for pid in [master, *host.nginx.workers(master)]} == {str(host.nginx.log)}


def test_a_configuration_that_the_old_release_rejects_is_named_and_the_one_in_memory_served(host: Heard) -> None:
    master = held(host)
    new = host.nginx.master()
    before = host.nginx.workers(new)
    os.kill(new, signal.SIGHUP)
    wait_until(lambda: not set(before) & set(host.nginx.workers(new)), "a reload")
    edit(host, "events {", "nonsense on; events {")

    comes_back(host, master)

    assert "config_not_reloaded" in host.words
    assert 'unknown directive "nonsense"' in host.messages["config_not_reloaded"]
    assert b" 418 " in host.nginx.get("/teapot")


# Masters that die


def test_orphans_of_a_killed_new_master_are_ended(host: Heard) -> None:
    master = held(host)
    new = host.nginx.master()
    orphans = host.nginx.workers(new)
    os.kill(new, signal.SIGKILL)
    wait_until(lambda: len(host.nginx.workers(master)) == 2, "the old master's own workers")

    comes_back(host, master)

    assert "orphans_ended" in host.words
    assert not set(orphans) & set(host.nginx.processes())


def test_a_stale_oldbin_is_swept_and_said(host: Heard) -> None:
    master = held(host)
    os.kill(master, signal.SIGKILL)
    oldbin = host.nginx.pid_file.with_name("nginx.pid.oldbin")
    wait_until(lambda: host.visit(Ask.LOOK)[1].phase is Phase.NEW, "the new master alone")
    assert oldbin.exists()

    end, report = host.visit(Ask.COMMIT)

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.NEW), end
    assert "stale_oldbin" in host.words
    assert not oldbin.exists()


def test_an_empty_pid_file_does_not_keep_a_committed_host_from_going_back(host: Heard) -> None:
    before = host.sha256()
    held(host)
    assert host.visit(Ask.COMMIT)[0].outcome is Outcome.DONE
    host.nginx.pid_file.write_text("")

    end, report = host.visit(Ask.ROLLBACK)

    assert end.outcome is Outcome.DONE, end
    assert (report.phase, report.running_sha256) == (Phase.OLD, before)
    assert "pid_file_rewritten" in host.words
    assert not host.nginx.logged("failed before executing new binary process")


def test_where_only_orphans_are_left_the_commands_are_given(host: Heard) -> None:
    held(host)
    assert host.visit(Ask.COMMIT)[0].outcome is Outcome.DONE
    master = host.nginx.master()
    orphans = host.nginx.workers(master)
    os.kill(master, signal.SIGKILL)
    wait_until(lambda: host.visit(Ask.LOOK)[1].phase is Phase.DOWN, "DOWN")

    end, _ = host.visit(Ask.ROLLBACK)

    assert (end.outcome, end.reason) == (Outcome.FAILED, "orphans_only"), end
    assert f"kill -QUIT {' '.join(map(str, sorted(orphans)))}" in end.remedy
    assert f"{host.nginx.binary} -p {host.nginx.folder}/ -c conf/nginx.conf" in end.remedy
    assert b"ok" in host.nginx.get()


# Files that are lost


def test_a_lost_binary_is_rescued_from_a_process_that_runs_it(host: Heard) -> None:
    before, master = host.sha256(), held(host)
    (host.nginx.binary.parent / ".nginx.fleet-kept").unlink()
    shutil.rmtree(host.state_dir / "releases" / before)

    report = comes_back(host, master)

    assert "release_rescued" in host.words
    is_as_before(host, report, before, master)


def test_a_binary_that_no_longer_exists_anywhere_is_named(tmp_path: Path, release: Path) -> None:
    rare = make_release("new", tmp_path / "rare", version="1.22.4")
    host = Heard(PrivateNginx(tmp_path / "host", rare).start_well(), "")
    try:
        host.store(release)
        before = host.sha256()
        held(host)
        assert host.visit(Ask.COMMIT)[0].outcome is Outcome.DONE
        shutil.rmtree(host.state_dir / "releases" / before)

        end, report = host.visit(Ask.ROLLBACK)

        assert end.reason == "release_lost", end
        assert report.phase is Phase.NEW
    finally:
        host.nginx.end()


def test_a_change_that_is_only_pending_is_not_put_live_to_get_rid_of_workers(host: Heard) -> None:
    master = held(host)
    for count in (2, 4):
        os.kill(master, signal.SIGHUP)
        wait_until(lambda count=count: len(host.nginx.workers(master)) == count, f"{count} workers")  # type: ignore[misc]
    edit(host, "return 418", "return 419")

    assert host.visit(Ask.ROLLBACK)[0].outcome is Outcome.DONE

    assert "workers_left_doubled" in host.words
    assert b" 418 " in host.nginx.get("/teapot")
