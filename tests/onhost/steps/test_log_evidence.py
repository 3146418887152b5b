"""Whole visits to a real nginx whose running release complains in its log: what counts against the new one, what does not."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet.lab.releases.build import make_release
from fleet.onhost.nginx.log.baseline import rehearsed_lines
from fleet.onhost.protocol import Ask, Outcome, Phase, Reply, ReplyType, Step
from fleet.onhost.state.known_lines import Rehearsed
from fleet.onhost.state.store import Store
from fleet.onhost.system.machine import Machine
from tests.onhost.test_failure_modes import Heard
from tests.onhost.visit.test_dispatch import is_as_before
from tests.support.complaints import (
    AFFINITY,
    AFFINITY_BROKEN,
    AFFINITY_FAILED,
    PRIORITY,
    PRIORITY_FAILED,
    RLIMIT,
    RLIMIT_FAILED,
    WITHOUT_NICE,
    WITHOUT_RESOURCE,
    make_other_words,
)
from tests.support.private_nginx import PrivateNginx, wait_until

ALLOWED = f"log-line={AFFINITY_BROKEN}"


@dataclass
class Told(Heard):
    """A host whose warnings are kept with their text."""

    told: dict[str, list[str]] = field(default_factory=dict)
    in_step: Step | None = None

    def _say(self, reply: Reply) -> None:
        super()._say(reply)
        if reply.type is ReplyType.STEP_STARTED:
            self.in_step = reply.step
        if reply.type is ReplyType.FINDING:
            self.told.setdefault(str(reply.reason), []).append(reply.message)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


@pytest.fixture(scope="module")
def other_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_other_words(tmp_path_factory.mktemp("other") / "nginx")


class Hosts:
    """Makes hosts, and ends them after the test."""

    def __init__(self, folder: Path, release: Path) -> None:
        self.folder = folder
        self.release = release
        self.made: list[Told] = []

    def __call__(self, main: str = "", start: str = "", level: str = "notice") -> Told:
        nginx = PrivateNginx(self.folder, main=main, start=start)
        edit(nginx, "error.log notice", f"error.log {level}")
        found = Told(nginx.start_well(), "")
        self.made.append(found)
        found.store(self.release)
        return found


@pytest.fixture
def hosts(tmp_path: Path, release: Path) -> Iterator[Hosts]:
    found = Hosts(tmp_path, release)
    yield found
    for host in found.made:
        host.nginx.end()


def edit(nginx: PrivateNginx, before: str, after: str) -> None:
    config = nginx.folder / "conf" / "nginx.conf"
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after))


def end_worker(host: Told, signum: int) -> None:
    """One worker of the newest master ends by this signal, and another takes its place."""
    master = host.nginx.master()
    count = host.nginx.log.read_text().count(f"exited on signal {signum}")
    os.kill(host.nginx.workers(master)[0], signum)
    wait_until(
        lambda: host.nginx.log.read_text().count(f"exited on signal {signum}") > count, "the alert of the master"
    )
    host.nginx.wait_for_workers(master)


# Lines at the start of every worker

COMPLAINTS = {
    "affinity": (AFFINITY, "", AFFINITY_FAILED),
    "rlimit": (RLIMIT, WITHOUT_RESOURCE, RLIMIT_FAILED),
    "priority": (PRIORITY, WITHOUT_NICE, PRIORITY_FAILED),
}


@pytest.mark.parametrize("level", ["notice", "error"])
@pytest.mark.parametrize("complaint", COMPLAINTS)
def test_a_complaint_that_the_running_release_writes_too_is_shown_and_not_counted(
    complaint: str, level: str, hosts: Hosts
) -> None:
    main, start, text = COMPLAINTS[complaint]
    host = hosts(main, start, level)
    before, master = host.sha256(), host.nginx.master()

    end, report = host.visit(Ask.UPGRADE)

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.TRIAL), end
    (message,) = host.told["log_known"]
    assert text in message
    assert "(also written by the running release, last at 20" in message
    assert "not counted)" in message
    assert '"log_known"' in host.journal
    assert host.visit(Ask.BAKE)[0].outcome is Outcome.DONE
    assert host.visit(Ask.BAKE)[0].outcome is Outcome.DONE
    assert len(host.told["log_known"]) == 1, "said once, not at every look"
    end, report = host.visit(Ask.ROLLBACK)
    assert end.outcome is Outcome.DONE
    is_as_before(host, report, before, master)


def test_a_complaint_with_another_number_is_the_same_and_both_are_shown(hosts: Hosts) -> None:
    host = hosts(RLIMIT, WITHOUT_RESOURCE)
    edit(host.nginx, "131072", "65536")

    assert host.visit(Ask.UPGRADE)[0].outcome is Outcome.DONE

    (message,) = host.told["log_known"]
    assert "setrlimit(RLIMIT_NOFILE, 65536) failed" in message
    assert f"as `{RLIMIT_FAILED}`" in message


def test_a_commit_judges_alike(hosts: Hosts) -> None:
    host = hosts(AFFINITY)
    host.visit(Ask.UPGRADE)

    end, report = host.visit(Ask.COMMIT)

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.NEW), end


def test_a_complaint_from_before_a_log_rotation_is_known(hosts: Hosts) -> None:
    host = hosts(AFFINITY)
    gone = host.nginx.log.rename(host.nginx.log.with_suffix(".log.1"))
    os.kill(host.nginx.master(), signal.SIGUSR1)
    wait_until(lambda: "reopening" in gone.read_text() and host.nginx.log.exists(), "a new log")

    assert host.visit(Ask.UPGRADE)[0].outcome is Outcome.DONE


def test_a_complaint_that_only_a_rehearsal_has_shown_is_known(hosts: Hosts) -> None:
    """The log of the start is gone, but the running binary has been started once more, in a rehearsal."""
    host = hosts(AFFINITY)
    text = host.nginx.log.read_text()
    os.truncate(host.nginx.log, 0)
    machine, master = Machine(), host.nginx.master()
    process = machine.process(master)
    assert process is not None
    own = Store(machine, str(host.state_dir)).instance(str(host.nginx.pid_file))
    own.write_rehearsed(Rehearsed((master, process.start), rehearsed_lines(text.splitlines())))

    assert host.visit(Ask.UPGRADE)[0].outcome is Outcome.DONE

    assert "(also written by the running release in the rehearsal, last at 20" in host.told["log_known"][0]


@pytest.mark.parametrize("ask", [Ask.STAGE, Ask.UPGRADE])
def test_what_preflights_own_rehearsal_shows_is_known(ask: Ask, hosts: Hosts) -> None:
    host = hosts(RLIMIT, WITHOUT_RESOURCE)
    os.truncate(host.nginx.log, 0)
    host.rehearse = True
    assert host.visit(ask)[0].outcome is Outcome.DONE
    host.rehearse = False
    host.visit(Ask.UPGRADE)

    assert "(also written by the running release in the rehearsal, last at 20" in host.told["log_known"][0]


def test_a_rehearsal_of_another_master_is_not_used(hosts: Hosts) -> None:
    host = hosts(AFFINITY)
    text = host.nginx.log.read_text()
    os.truncate(host.nginx.log, 0)
    own = Store(Machine(), str(host.state_dir)).instance(str(host.nginx.pid_file))
    own.write_rehearsed(Rehearsed((host.nginx.master(), 1), rehearsed_lines(text.splitlines())))

    assert host.visit(Ask.UPGRADE)[0].reason == "log_bad"


def test_a_release_that_comes_back_may_write_what_it_wrote_before(hosts: Hosts, other_words: Path) -> None:
    """The way back from a committed release: the old one complains in words that the running one does not use."""
    host = hosts(AFFINITY)
    host.store(other_words)
    before = host.sha256()
    assert host_allows(host, ALLOWED).visit(Ask.UPGRADE)[0].outcome is Outcome.DONE
    assert host.visit(Ask.COMMIT)[0].outcome is Outcome.DONE

    end, report = host.visit(Ask.ROLLBACK)

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.OLD), end
    assert host.sha256() == before
    assert "(also written by this release before the upgrade, last at 20" in host.told["log_known"][-1]


# New kinds of lines


def test_a_new_kind_of_complaint_fails_also_when_the_release_is_tried_again(hosts: Hosts, other_words: Path) -> None:
    """The lines of the first attempt are in the same log. They must not excuse the second one."""
    host = hosts(AFFINITY)
    host.store(other_words)
    before, master = host.sha256(), host.nginx.master()

    for rollout in ("r1", "r2", "r3"):
        end, report = host.visit(Ask.UPGRADE, rollout=rollout)

        assert (end.outcome, end.reason) == (Outcome.FAILED, "log_bad"), end
        assert AFFINITY_BROKEN in end.message
        assert "The running release wrote none like them in " in end.message
        assert f"`--allow log-line='{AFFINITY_BROKEN}'`" in end.remedy
        is_as_before(host, report, before, master)
        host.epoch += 1


def test_lines_of_another_instance_with_the_same_log_excuse_nothing(
    hosts: Hosts, other_words: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    host = hosts(AFFINITY)
    host.store(other_words)
    neighbour = PrivateNginx(tmp_path_factory.mktemp("neighbour"), other_words, main=AFFINITY)
    edit(neighbour, "logs/error.log", str(host.nginx.log))
    neighbour.start()
    try:
        wait_until(lambda: host.nginx.logged("broken"), "the complaints of the neighbour")

        assert host.visit(Ask.UPGRADE)[0].reason == "log_bad"
    finally:
        os.kill(neighbour.master(), signal.SIGTERM)
        wait_until(lambda: not neighbour.pid_file.exists(), "the end of the neighbour")


def test_a_line_that_the_operator_names_is_allowed_recorded_and_remembered_at_the_commit(
    hosts: Hosts, other_words: Path
) -> None:
    host = hosts(AFFINITY)
    host.store(other_words)

    end, report = host_allows(host, ALLOWED).visit(Ask.UPGRADE)

    assert end.outcome is Outcome.DONE, end
    assert report.record is not None
    assert ALLOWED in report.record.allow
    (message,) = host.told["log_allowed"]
    assert f"{AFFINITY_BROKEN} (log-line='{AFFINITY_BROKEN}')" in message
    assert '"log_allowed"' in host.journal
    assert host_allows(host).visit(Ask.BAKE)[0].outcome is Outcome.DONE
    assert host.visit(Ask.COMMIT)[0].outcome is Outcome.DONE


def test_what_a_resume_allows_in_addition_is_recorded(hosts: Hosts, other_words: Path) -> None:
    host = hosts(AFFINITY)
    host.store(other_words)
    assert host.visit(Ask.UPGRADE)[0].reason == "log_bad"

    host_allows(host, ALLOWED)
    end, report = host.visit(Ask.UPGRADE, reopen=True)

    assert end.outcome is Outcome.DONE, end
    assert report.record is not None
    assert ALLOWED in report.record.allow


def host_allows(host: Told, *allow: str) -> Told:
    host.allow = ("pending-config", *allow)
    return host


# Workers that exit


def test_an_exit_as_the_running_release_shows_it_is_not_counted_and_one_more_is(hosts: Hosts) -> None:
    host = hosts()
    end_worker(host, signal.SIGSEGV)
    host.visit(Ask.UPGRADE)
    end_worker(host, signal.SIGSEGV)

    assert host.visit(Ask.BAKE)[0].outcome is Outcome.DONE
    assert "exited on signal 11 (" in host.told["log_known"][0]
    end_worker(host, signal.SIGSEGV)
    end, _ = host.visit(Ask.BAKE)

    assert end.reason == "workers_crash"
    assert "The running release wrote such lines less often: at most 1 within " in end.message


def test_an_exit_by_another_signal_counts(hosts: Hosts) -> None:
    host = hosts()
    end_worker(host, signal.SIGKILL)
    host.visit(Ask.UPGRADE)
    end_worker(host, signal.SIGSEGV)

    assert host.visit(Ask.BAKE)[0].reason == "workers_crash"


def test_a_known_exit_while_the_new_workers_settle_begins_the_settle_time_anew(hosts: Hosts) -> None:
    host = hosts()
    end_worker(host, signal.SIGSEGV)

    end, report = host.visit(Ask.UPGRADE, in_verify(host, lambda: end_worker(host, signal.SIGSEGV)))

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.TRIAL), end
    assert "exited on signal 11 (" in host.told["log_known"][0]
    assert len(host.told["settles_anew"]) == 1


def test_an_exit_while_the_new_workers_settle_fails_without_a_known_one(hosts: Hosts) -> None:
    host = hosts()
    before, master = host.sha256(), host.nginx.master()

    end, report = host.visit(Ask.UPGRADE, in_verify(host, lambda: end_worker(host, signal.SIGSEGV)))

    assert end.reason == "workers_crash"
    is_as_before(host, report, before, master)


@pytest.mark.parametrize("kind", ["crash-workers", "crash-on-request"])
def test_a_crash_loop_does_not_hide_behind_an_old_crash(kind: str, hosts: Hosts, tmp_path: Path) -> None:
    host = hosts()
    end_worker(host, signal.SIGILL)
    before, master = host.sha256(), host.nginx.master()
    host.store(make_release(kind, tmp_path / "bad"))

    for rollout in ("r1", "r2"):
        end, report = host.visit(Ask.UPGRADE, rollout=rollout)

        assert end.outcome is Outcome.FAILED
        assert end.reason in {"workers_crash"} | ({"probe_failed"} if kind == "crash-on-request" else set()), end
        is_as_before(host, report, before, master)
        host.epoch += 1


def in_verify(host: Told, act: Callable[[], object]) -> Callable[[], None]:
    """A `go_on` that does this once, in the settle time of verify."""
    done: list[Step] = []

    def go_on() -> None:
        if host.in_step is Step.VERIFY and not done:
            done.append(Step.VERIFY)
            act()

    return go_on
