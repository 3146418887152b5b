"""A file at nginx's path that someone else put there: it is left alone, and the traffic goes back all the same."""

import hashlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.lab.releases.build import make_release
from fleet.onhost.protocol import Ask, Outcome, Phase, Report, State, Step
from fleet.onhost.report.committed_by import UNKNOWN
from fleet.onhost.steps.context import TurnedBack
from tests.onhost.visit.test_dispatch import Host
from tests.support.private_nginx import wait_until


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("releases")
    make_release("new", folder / "new")
    make_release("new", folder / "package", version="1.22.8")
    return folder


@pytest.fixture
def host(tmp_path: Path, releases: Path) -> Iterator[Host]:
    found = Host.on(tmp_path, releases / "new")
    yield found
    found.nginx.end()


def put(host: Host, file: Path) -> str:
    """Replace the file at the path as a package manager does: another file is renamed over it. Returns its hash."""
    fresh = host.nginx.binary.with_name("nginx.dpkg-new")
    shutil.copy(file, fresh)
    fresh.rename(host.nginx.binary)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def retire_by_hand(host: Host, report: Report) -> None:
    """What the postinst of Debian's nginx does on a held host: QUIT to the master that `.oldbin` names."""
    old = report.masters[0].pid
    os.kill(old, signal.SIGQUIT)
    wait_until(lambda: host.nginx.master() != old and not Path(f"/proc/{old}/exe").exists(), "the old master left")


def test_a_held_host_goes_back_and_the_file_stays(host: Host, releases: Path) -> None:
    _, held = host.visit(Ask.UPGRADE)
    strange = put(host, releases / "package")

    end, report = host.visit(Ask.ROLLBACK)

    assert end.outcome is Outcome.DONE, end
    assert [step for step, _ in host.steps] == [Step.REVIVE, Step.DISMISS, Step.SWEEP]
    assert (report.phase, [one.pid for one in report.masters]) == (Phase.OLD, [held.masters[0].pid])
    assert (report.path_sha256, host.sha256()) == (strange, strange)
    assert report.record is not None
    assert report.record.state is State.ROLLED_BACK
    assert host.found["path_left"].endswith("it starts at the next restart or reboot.")
    assert f"{strange[:12]}, a file of no package" in host.found["path_left"]


def test_the_operator_may_have_it_overwritten(host: Host, releases: Path) -> None:
    before = host.sha256()
    host.visit(Ask.UPGRADE)
    put(host, releases / "package")
    host.allow = ("path-changed",)

    end, report = host.visit(Ask.ROLLBACK)

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.OLD)
    assert (host.sha256(), host.stray()) == (before, [])
    assert "path_left" not in host.found


def test_a_host_that_someone_else_committed_is_not_taken_back_over_a_strange_file(host: Host, releases: Path) -> None:
    """Going back would put the old binary at the path, so it is refused before anything; with --allow it is done."""
    before = host.sha256()
    _, held = host.visit(Ask.UPGRADE)
    strange = put(host, releases / "package")
    retire_by_hand(host, held)

    end, report = host.visit(Ask.ROLLBACK)

    assert (end.outcome, end.reason, host.steps) == (Outcome.REFUSED, "path_changed", [])
    assert UNKNOWN in host.found["committed_elsewhere"]
    assert (report.phase, report.path_sha256, host.sha256()) == (Phase.NEW, strange, strange)
    assert report.running_sha256 == host.target

    host.allow += ("path-changed",)
    end, report = host.visit(Ask.ROLLBACK)
    assert (end.outcome, report.running_sha256, host.sha256()) == (Outcome.DONE, before, before), end


def test_a_commit_by_someone_else_is_reported_and_then_written_down(host: Host, releases: Path) -> None:
    _, held = host.visit(Ask.UPGRADE)
    assert held.committed_by == ""
    strange = put(host, releases / "package")
    retire_by_hand(host, held)
    _, seen = host.visit(Ask.LOOK)
    assert (seen.phase, seen.committed_by, seen.unconfirmed) == (Phase.NEW, UNKNOWN, False)

    end, report = host.visit(Ask.COMMIT)

    assert end.outcome is Outcome.DONE, end
    assert report.record is not None
    assert (report.record.state, report.record.committed_by) == (State.COMMITTED, UNKNOWN)
    assert (report.committed_by, host.sha256()) == (UNKNOWN, strange)
    assert "committed_elsewhere" in host.found


def test_fleets_own_commit_is_no_one_elses(host: Host) -> None:
    """Also one that died between the end of the old master and its record."""
    host.visit(Ask.UPGRADE)
    _, report = host.visit(Ask.COMMIT)
    assert report.committed_by == ""
    assert report.record is not None

    host.own.write_record(report.record._replace(state=State.BEGUN))

    assert host.visit(Ask.LOOK)[1].committed_by == ""


def test_a_commit_leaves_the_file_and_says_so(host: Host, releases: Path) -> None:
    host.visit(Ask.UPGRADE)
    strange = put(host, releases / "package")

    end, report = host.visit(Ask.COMMIT)

    assert (end.outcome, report.phase, report.running_sha256) == (Outcome.DONE, Phase.NEW, host.target), end
    assert (host.sha256(), host.stray()) == (strange, [])
    assert "path_left" in host.found


def test_a_known_file_is_put_right_as_ever(host: Host) -> None:
    """A reinstalled old package brings back the file from before: the commit puts the release there again."""
    old = host.nginx.binary.with_name("copy")
    shutil.copy(host.nginx.binary, old)
    host.visit(Ask.UPGRADE)
    put(host, old)
    old.unlink()

    end, _ = host.visit(Ask.COMMIT)

    assert (end.outcome, host.sha256(), host.stray()) == (Outcome.DONE, host.target, [])
    assert "path_put_right" in host.found


def test_a_host_that_is_down_keeps_the_file_that_the_next_start_runs(host: Host, releases: Path) -> None:
    _, held = host.visit(Ask.UPGRADE)
    strange = put(host, releases / "package")
    for master in held.masters:
        os.kill(master.pid, signal.SIGTERM)
    gone = [Path(f"/proc/{master.pid}/exe") for master in held.masters]
    wait_until(lambda: not any(one.exists() for one in gone), "both masters left")

    end, report = host.visit(Ask.ROLLBACK)

    assert (end.outcome, end.reason, report.phase) == (Outcome.FAILED, "down", Phase.DOWN)
    assert host.sha256() == strange
    assert "path_left" in host.found


def test_a_resumed_upgrade_does_not_overwrite_it(host: Host, releases: Path) -> None:
    """The upgrade stopped before its swap; meanwhile a package has brought its file."""

    def stop() -> None:
        raise TurnedBack("stopped")

    host.visit(Ask.UPGRADE, stop)
    strange = put(host, releases / "package")

    end, report = host.visit(Ask.UPGRADE)

    assert (end.outcome, end.reason, report.phase) == (Outcome.REFUSED, "path_changed", Phase.OLD)
    assert host.sha256() == strange
