"""Whole visits to a real nginx on this machine, with faults that a lab can't time: each ends in a resting phase."""

import errno
import hashlib
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet.lab.releases.build import make_release
from fleet.onhost.nginx.probe import ask
from fleet.onhost.protocol import (
    MAY_DO,
    PROTOCOL,
    Ask,
    Goal,
    Layout,
    Options,
    Outcome,
    Phase,
    Probe,
    Reply,
    ReplyType,
    Report,
    Request,
    Rest,
    Step,
)
from fleet.onhost.state.fence import claim
from fleet.onhost.state.store import InstanceStore, Store
from fleet.onhost.steps.context import TurnedBack
from fleet.onhost.system.machine import Machine
from fleet.onhost.visit.dispatch import serve
from fleet.onhost.visit.end import End
from tests.support.private_nginx import PrivateNginx, stop, wait_until


@dataclass
class Host:
    """A private nginx and what a controller would say to it. Without `rehearse` a bad release gets as far as its step."""

    nginx: PrivateNginx
    target: str
    machine: Machine = field(default_factory=Machine)
    steps: list[tuple[Step, Outcome]] = field(default_factory=list)
    found: dict[str, str] = field(default_factory=dict)
    epoch: int = 1
    rehearse: bool = False
    allow: tuple[str, ...] = ("pending-config",)

    @classmethod
    def on(cls, folder: Path, release: Path) -> "Host":
        """A host with its nginx under the folder, whose store has the release."""
        found = cls(PrivateNginx(folder).start_well(), hashlib.sha256(release.read_bytes()).hexdigest())
        stored = found.state_dir / "releases" / found.target / "nginx"
        stored.parent.mkdir(parents=True)
        shutil.copy(release, stored)
        return found

    @property
    def state_dir(self) -> Path:
        return self.nginx.folder / "state"

    @property
    def options(self) -> Options:
        probes = (Probe(f"http://{self.nginx.target}/health"),)
        return Options(settle_s=0.3, probes=probes, allow=self.allow, rehearse=self.rehearse)

    def visit(
        self, ask: Ask, go_on: Callable[[], None] = lambda: None, rollout: str = "r1", *, reopen: bool = False
    ) -> tuple[End, Report]:
        layout = Layout(pid_file=str(self.nginx.pid_file), state_dir=str(self.state_dir))
        goal = Goal(self.target, Rest.HELD) if ask in (Ask.STAGE, Ask.UPGRADE) else None
        back = ask is Ask.ROLLBACK
        request = Request(PROTOCOL, ask, rollout, self.epoch, "ada", goal, MAY_DO[ask], layout, self.options)
        request = request._replace(take_over=back, reopen=reopen)
        self.steps.clear()
        self.found.clear()
        end, report = serve(self.machine, request, self._say, go_on)
        assert report is not None
        return end, report

    def _say(self, reply: Reply) -> None:
        if reply.step is not None and reply.outcome is not None:
            self.steps.append((reply.step, reply.outcome))
        if reply.type is ReplyType.FINDING:
            self.found[str(reply.reason)] = reply.message

    @property
    def own(self) -> InstanceStore:
        return Store(self.machine, str(self.state_dir)).instance(str(self.nginx.pid_file))

    def sha256(self) -> str:
        return hashlib.sha256(self.nginx.binary.read_bytes()).hexdigest()

    def stray(self) -> list[str]:
        return sorted(path.name for path in self.nginx.binary.parent.iterdir() if path != self.nginx.binary)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


@pytest.fixture
def host(tmp_path: Path, release: Path) -> Iterator[Host]:
    found = Host.on(tmp_path, release)
    yield found
    found.nginx.end()


def is_as_before(host: Host, report: Report, before: str, master: int) -> None:
    assert report.phase is Phase.OLD
    assert [view.pid for view in report.masters] == [master]
    assert (report.path_sha256, host.sha256(), host.stray()) == (before, before, [])


def test_upgrade_and_back_again(host: Host) -> None:
    before, master = host.sha256(), host.nginx.master()

    end, report = host.visit(Ask.UPGRADE)
    assert (end.outcome, report.phase, report.held) == (Outcome.DONE, Phase.TRIAL, True)
    assert [step for step, _ in host.steps] == [Step.SWAP, Step.LAUNCH, Step.VERIFY, Step.DRAIN]

    end, report = host.visit(Ask.ROLLBACK)
    assert end.outcome is Outcome.DONE
    assert [step for step, _ in host.steps] == [Step.REVIVE, Step.DISMISS, Step.RESTORE]
    is_as_before(host, report, before, master)


def test_an_upgrade_is_rehearsed_before_its_first_step(host: Host) -> None:
    host.rehearse = True

    end, report = host.visit(Ask.UPGRADE)

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.TRIAL), end
    assert report.rehearsal is not None
    assert report.rehearsal.why_not is None
    assert (report.rehearsal.questions, report.rehearsal.alike) == (2, 2)


@pytest.mark.parametrize("kind", ["crash-workers", "hang-workers", "hung-master", "errors", "bad-config"])
def test_a_release_that_can_not_serve_is_refused_before_any_step(tmp_path: Path, kind: str) -> None:
    bad = Host.on(tmp_path / "bad", make_release(kind, tmp_path / kind))
    bad.rehearse = True
    before, master = bad.sha256(), bad.nginx.master()
    try:
        end, report = bad.visit(Ask.UPGRADE)

        assert (end.outcome, bad.steps) == (Outcome.REFUSED, []), end
        is_as_before(bad, report, before, master)
        assert report.record is None
    finally:
        bad.nginx.end()


class Full(Machine):
    """A disk that is full for one of fleet's own files."""

    def __init__(self, name: str) -> None:
        self.name = name

    def write(self, path: str, text: str, mode: int = 0o600, lasting: bool = True) -> None:
        if path.endswith(self.name):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        super().write(path, text, mode, lasting)

    def append(self, path: str, line: str, lasting: bool = True) -> None:
        if path.endswith(self.name):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        super().append(path, line, lasting)


@pytest.mark.parametrize("name", ["record.json", "layout.json", "serving.json", "journal.jsonl", "fence.json", "undo"])
def test_a_full_disk_leaves_the_host_as_it_was(name: str, host: Host) -> None:
    """Whichever of fleet's own files can't be written: no host is left with the new file and the old process."""
    before, master = host.sha256(), host.nginx.master()
    host.machine = Full(name)

    end, report = host.visit(Ask.UPGRADE)

    assert end.outcome is not Outcome.DONE
    assert end.message
    is_as_before(host, report, before, master)


def test_a_full_journal_does_not_stop_a_host_from_going_back(host: Host) -> None:
    before, master = host.sha256(), host.nginx.master()
    assert host.visit(Ask.UPGRADE)[0].outcome is Outcome.DONE
    host.machine = Full("journal.jsonl")

    end, report = host.visit(Ask.ROLLBACK)

    assert end.outcome is Outcome.DONE
    is_as_before(host, report, before, master)


@pytest.mark.parametrize("reason", ["controller_gone", "interrupted"])
@pytest.mark.parametrize("step", [Step.SWAP, Step.LAUNCH, Step.VERIFY])
def test_turning_back_before_drain_ends_in_old(step: Step, reason: str, host: Host) -> None:
    before, master = host.sha256(), host.nginx.master()

    end, report = host.visit(Ask.UPGRADE, after(host, step, reason))

    assert (end.outcome, end.reason) == (Outcome.FAILED, reason)
    is_as_before(host, report, before, master)


def test_turning_back_after_drain_stays_held(host: Host) -> None:
    end, report = host.visit(Ask.UPGRADE, after(host, Step.DRAIN, "interrupted"))

    assert end.outcome is Outcome.DONE
    assert report.phase is Phase.TRIAL


def after(host: Host, step: Step, reason: str) -> Callable[[], None]:
    """No other step begins after that one."""

    def go_on() -> None:
        if (step, Outcome.DONE) in host.steps:
            raise TurnedBack(reason, how="the test says so")

    return go_on


def test_a_rollback_that_takes_over_in_mid_upgrade_finds_the_host_at_rest(host: Host) -> None:
    """The upgrade sees at its next step that the host has been given away, and takes it home by itself."""
    before, master = host.sha256(), host.nginx.master()
    other = Host(host.nginx, host.target, epoch=0)

    def taken_over() -> None:
        if (Step.LAUNCH, Outcome.DONE) in host.steps and not other.steps:
            other.steps.append((Step.STAGE, Outcome.DONE))
            take_over(other)

    end, report = host.visit(Ask.UPGRADE, taken_over)

    assert end.reason == "taken_over"
    is_as_before(host, report, before, master)


def take_over(host: Host) -> None:
    store = Store(Machine(), str(host.state_dir))
    request = Request(PROTOCOL, Ask.ROLLBACK, "r1", 0, "grace", None, MAY_DO[Ask.ROLLBACK], Layout(), take_over=True)
    claim(store.instance(str(host.nginx.pid_file)), request)


def test_another_rollout_does_not_begin_where_one_is_held(host: Host) -> None:
    host.visit(Ask.UPGRADE)
    host.epoch = 2
    host.target = "b" * 64

    end, report = host.visit(Ask.UPGRADE, rollout="r2")

    assert (end.outcome, end.reason) == (Outcome.REFUSED, "upgrade_in_progress")
    assert "r1" in end.message
    assert report.phase is Phase.TRIAL


def test_another_rollout_to_the_same_release_continues_where_one_was_left(host: Host) -> None:
    before, master = host.sha256(), host.nginx.master()
    host.visit(Ask.UPGRADE)
    host.epoch = 2

    end, report = host.visit(Ask.UPGRADE, rollout="r2")

    assert (end.outcome, host.steps) == (Outcome.DONE, [])
    assert report.record is not None
    assert report.record.rollout == "r2"
    end, report = host.visit(Ask.ROLLBACK, rollout="r2")
    is_as_before(host, report, before, master)


def test_a_host_whose_master_dies_right_after_the_swap_has_the_file_before_at_its_path(host: Host) -> None:
    """The next start of nginx, or the next boot, must not run a release that was never verified."""
    before, master = host.sha256(), host.nginx.master()

    def kill_after_swap() -> None:
        if (Step.SWAP, Outcome.DONE) in host.steps:
            os.kill(master, signal.SIGKILL)
            wait_until(lambda: host.machine.process(master) is None, "the end of the master")

    end, report = host.visit(Ask.UPGRADE, kill_after_swap)

    assert (end.outcome, report.phase) == (Outcome.FAILED, Phase.DOWN), end
    assert (host.sha256(), host.stray()) == (before, [])


def test_log_lines_from_before_a_resume_do_not_count_against_the_release(host: Host) -> None:
    """Its workers were killed from outside: the bake must fail, and the operator can resume all the same."""
    host.visit(Ask.UPGRADE)
    for worker in host.nginx.workers(host.nginx.master()):
        os.kill(worker, signal.SIGKILL)
    wait_until(lambda: host.nginx.logged("exited on signal 9"), "the alert of the new master")
    host.nginx.wait_for_workers(host.nginx.master())
    assert host.visit(Ask.BAKE)[0].reason == "workers_crash"
    host.visit(Ask.UPGRADE)
    assert host.visit(Ask.BAKE)[0].reason == "workers_crash"

    assert host.visit(Ask.STAGE, reopen=True)[0].outcome is Outcome.DONE

    assert host.visit(Ask.BAKE)[0].outcome is Outcome.DONE
    assert '"log_passed_over"' in next(host.state_dir.glob("instances/*/journal.jsonl")).read_text()


class Killed(BaseException):
    """The step script is gone: nothing catches it."""


def test_an_upgrade_that_was_killed_after_the_swap_can_be_resumed_and_rolled_back(host: Host) -> None:
    """fleet itself put the file at the path, so a new upgrade is not refused, and the way back is still the first one."""
    before, master = host.sha256(), host.nginx.master()

    def kill_after_swap() -> None:
        if (Step.SWAP, Outcome.DONE) in host.steps:
            raise Killed

    with pytest.raises(Killed):
        host.visit(Ask.UPGRADE, kill_after_swap)
    host.epoch = 2
    assert host.visit(Ask.LOOK)[1].phase is Phase.SWAPPED

    end, report = host.visit(Ask.UPGRADE, rollout="r2")

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.TRIAL), end
    end, report = host.visit(Ask.ROLLBACK, rollout="r2")
    is_as_before(host, report, before, master)


def test_nothing_is_sent_to_a_stopped_old_master(host: Host) -> None:
    """A WINCH that waits in it would act just when the new master's end wakes it up: an outage."""
    before, master = host.sha256(), host.nginx.master()

    def stop_after_verify() -> None:
        if (Step.VERIFY, Outcome.DONE) in host.steps:
            stop(master)

    end, report = host.visit(Ask.UPGRADE, stop_after_verify)
    assert (end.outcome, end.reason) == (Outcome.FAILED, "failed_to_go_back")
    assert report.phase is Phase.OVERLAP
    assert end.message.startswith(f"The rollback failed. New connections are served by master pid {master} (")
    assert "CONT" in end.remedy
    os.kill(master, signal.SIGCONT)

    end, report = host.visit(Ask.ROLLBACK)

    assert end.outcome is Outcome.DONE
    is_as_before(host, report, before, master)
    assert len(host.nginx.workers(master)) == 2


def test_a_winch_that_was_never_seen_happens_before_the_new_master_goes(host: Host) -> None:
    """As after HUP and WINCH together: the WINCH waits for the next wake-up. It is woken up while both serve."""
    before, master = host.sha256(), host.nginx.master()
    host.visit(Ask.UPGRADE)
    os.kill(master, signal.SIGHUP)
    wait_until(lambda: len(host.nginx.workers(master)) == 2, "revived workers")

    end, report = host.visit(Ask.ROLLBACK)

    assert end.outcome is Outcome.DONE
    is_as_before(host, report, before, master)
    assert '"SIGUSR1"' in next(host.state_dir.glob("instances/*/journal.jsonl")).read_text()


class DeadlyWinch(Machine):
    """The new master dies at the signal by which the old one drains."""

    def signal(self, pid: int, start: int, signum: int) -> None:
        super().signal(pid, start, signum)
        if signum == signal.SIGWINCH:
            new = [process.pid for process in self.processes() if process.ppid == pid and "master" in process.title]
            os.kill(new[0], signal.SIGKILL)


def test_a_new_master_that_dies_while_the_old_one_is_drained_leaves_the_host_as_it_was(host: Host) -> None:
    """nginx takes its old workers up again by itself, so that a drain would be waited for in vain. Whether the death or
    the drained workers are seen first is the scheduler's matter; either word is true.
    """
    before, master = host.sha256(), host.nginx.master()
    host.machine = DeadlyWinch()

    end, report = host.visit(Ask.UPGRADE)

    assert end.outcome is Outcome.FAILED
    assert end.reason in ("new_not_serving", "went_back")
    is_as_before(host, report, before, master)
    assert report.orphans == ()
    assert len(host.nginx.workers(master)) == 2


def test_orphans_of_another_instance_are_left_alone(host: Host, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = PrivateNginx(tmp_path_factory.mktemp("other")).start_well()
    try:
        orphans = other.workers(other.master())
        os.kill(other.master(), signal.SIGKILL)
        host.visit(Ask.UPGRADE)

        end, report = host.visit(Ask.COMMIT)

        assert (end.outcome, report.phase, report.orphans) == (Outcome.DONE, Phase.NEW, ())
        assert all(Path(f"/proc/{pid}").exists() for pid in orphans)
    finally:
        other.end()


def test_a_socket_with_an_odd_name_stops_nothing(host: Host) -> None:
    with socket.socket(socket.AF_UNIX) as odd:
        odd.bind(b"\0x\xff\n 00010000 ")
        odd.listen()

        assert host.visit(Ask.UPGRADE)[0].outcome is Outcome.DONE


def test_a_full_disk_does_not_keep_a_host_from_going_back(host: Host) -> None:
    before, master = host.sha256(), host.nginx.master()
    host.visit(Ask.UPGRADE)
    host.machine = Full(".json")

    end, report = host.visit(Ask.ROLLBACK)

    assert end.outcome is Outcome.DONE
    is_as_before(host, report, before, master)


def test_a_bake_of_a_host_that_is_down_says_so(host: Host) -> None:
    host.visit(Ask.UPGRADE)
    while host.nginx.processes():
        for pid in host.nginx.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    end, report = host.visit(Ask.BAKE)

    assert (end.outcome, report.phase) == (Outcome.FAILED, Phase.DOWN), end
    assert report.start_command is not None
    assert "-c conf/nginx.conf" in report.start_command


def test_a_configuration_reloaded_while_held_is_served_after_the_way_back_too(host: Host) -> None:
    """HUP to the old master beside a new one reads no file; certificates renewed since its start would be lost."""
    host.visit(Ask.UPGRADE)
    config = host.nginx.folder / "conf" / "nginx.conf"
    config.write_text(config.read_text().replace("return 418", "return 419"))
    before = host.nginx.workers(host.nginx.master())
    os.kill(host.nginx.master(), signal.SIGHUP)
    wait_until(lambda: not set(before) & set(host.nginx.workers(host.nginx.master())), "a reload")

    end, _ = host.visit(Ask.ROLLBACK)

    assert end.outcome is Outcome.DONE
    probe = Probe(f"http://{host.nginx.target}/teapot", status=419)
    assert ask(Machine(), probe, host.nginx.workers(host.nginx.master())).problem is None


def test_a_held_host_reports_what_drains_and_since_when(host: Host) -> None:
    with slow_download(host):
        _, report = host.visit(Ask.UPGRADE)
    wait_until(lambda: host.visit(Ask.LOOK)[1].drain is None, "the end of the drain")

    drain = report.drain
    assert drain is not None
    assert (drain.workers, drain.connections, drain.silent) == (1, 1, 0)
    assert drain.since_s is not None
    assert 0.0 <= drain.since_s < 20.0
    assert drain.ages == ((drain.since_s, 1),)


def test_the_new_master_is_watched_while_old_connections_drain(host: Host) -> None:
    """Without it the old master is all there is, and must not be told to quit."""
    master = host.nginx.master()
    with slow_download(host):
        host.visit(Ask.UPGRADE)
        new = host.nginx.master()

        def lose_the_new_workers() -> None:
            if host.nginx.workers(new):
                os.kill(new, signal.SIGWINCH)

        end, report = host.visit(Ask.COMMIT, lose_the_new_workers)

    assert (end.outcome, end.reason) == (Outcome.FAILED, "new_not_serving")
    assert [view.pid for view in report.masters] == [master]
    assert len(host.nginx.workers(master)) == 2


def test_a_host_that_is_retiring_comes_back_in_one_visit(host: Host) -> None:
    """Its old master can no longer accept: it is ended, and the upgrade continues with the kept binary."""
    before = host.sha256()
    with slow_download(host):
        host.visit(Ask.UPGRADE)
        os.kill(host.nginx.master(".oldbin"), signal.SIGQUIT)
        wait_until(lambda: host.visit(Ask.LOOK)[1].phase is Phase.RETIRING, "RETIRING")

        end, report = host.visit(Ask.ROLLBACK)

    assert end.outcome is Outcome.DONE, end
    assert (report.phase, report.running_sha256, report.path_sha256) == (Phase.OLD, before, before)


@contextmanager
def slow_download(host: Host) -> Iterator[None]:
    """A client that takes its time, on a worker of the master that runs now."""
    with socket.create_connection(("127.0.0.1", host.nginx.port)) as client:
        client.sendall(b"GET /big.bin HTTP/1.1\r\nHost: host\r\n\r\n")
        client.recv(100)
        yield


def test_a_binary_given_by_hand_since_is_not_taken_for_ours(host: Host, tmp_path: Path) -> None:
    """One master of a release that this rollout knows nothing of: a rollback leaves it alone."""
    host.visit(Ask.UPGRADE)
    host.visit(Ask.COMMIT)
    third = make_release("new", tmp_path / "third", version="1.22.7")
    old, _ = host.nginx.upgrade(third)
    host.nginx.drain(old)
    os.kill(old, signal.SIGQUIT)
    host.nginx.wait_for_end(old)

    end, report = host.visit(Ask.ROLLBACK)

    assert (end.outcome, end.reason) == (Outcome.REFUSED, "foreign")
    assert host.steps == []
    assert report.running_version == "1.22.7"
