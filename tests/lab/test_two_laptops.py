"""Two operators on two laptops: a host names the operator at work, refuses the other one, and locks neither out for ever."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import Ran, agrees, are_as_before, environment, fleet, run, sha256, start, status

BASE = sha256(DEFAULT_BASE)
UPGRADE = ("-y", "--settle", "500ms", "--batches", "100%", "--output", "jsonl")
PATIENCE_S = 240.0


@pytest.fixture(scope="module")
def hosts(make_lab: MakeLab) -> Lab:
    return make_lab(2)


@pytest.fixture
def lab(hosts: Lab) -> Iterator[Lab]:
    """Two hosts on the release before, again after each test."""
    yield hosts
    fleet(hosts, "rollback", "-y")
    are_as_before(hosts, BASE)


@pytest.fixture
def sofa(hosts: Lab, tmp_path: Path) -> "Sofa":
    return Sofa(hosts, tmp_path / "journal.db")


class Sofa:
    """Another laptop: the same inventory and key, a journal of its own."""

    def __init__(self, lab: Lab, journal: Path) -> None:
        self._lab = lab
        self._journal = journal

    def __call__(self, *words: str) -> Ran:
        env = {**environment(self._lab), "FLEET_JOURNAL": str(self._journal)}
        return run((words[0], "-i", str(self._lab.inventory), *words[1:]), env)


@pytest.fixture
def at_work(lab: Lab, release: Path) -> "Iterator[subprocess.Popen[str]]":
    """The first laptop's upgrade, which watches its hosts."""
    process = start(lab, "upgrade", str(release), *UPGRADE, "--bake", "10m")
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if '"batch_closed"' in line:
                break
        yield process
        process.kill()


def test_the_other_laptop_gets_the_name_of_the_running_operator_and_changes_nothing(
    lab: Lab, sofa: Sofa, at_work: "subprocess.Popen[str]", release: Path
) -> None:
    before = status(lab)
    for words in (("upgrade", str(release), "-y"), ("commit", "-y"), ("resume", "-y")):
        ran = sofa(*words)
        assert ran.code == 5, ran.said
        assert f"pid {at_work.pid}" in ran.said, ran.said
    locks = json.loads(sofa("unlock", "--json").out)
    assert {host["claim"]["pid"] for host in locks["hosts"]} == {at_work.pid}
    assert locks["journal"]["holder"] is None

    after = status(lab)
    assert [after[name]["masters"] for name in after] == [before[name]["masters"] for name in before]
    assert at_work.poll() is None


def test_a_second_run_of_the_same_laptop_is_kept_out_by_the_journal(
    lab: Lab, at_work: "subprocess.Popen[str]", release: Path
) -> None:
    ran = fleet(lab, "commit", "-y")

    assert ran.code == 5, ran.said
    assert f"pid {at_work.pid}" in ran.said


def test_a_rollback_from_the_other_laptop_does_not_wait(lab: Lab, sofa: Sofa, at_work: "subprocess.Popen[str]") -> None:
    ran = sofa("rollback", "-y")

    assert ran.code == 0, ran.said
    agrees(lab, "OLD", BASE)
    rest = at_work.communicate(timeout=PATIENCE_S)[0]
    assert at_work.returncode == 3, rest
    assert "taken over" in rest


def test_after_the_first_laptop_has_died_the_other_one_continues_with_force(
    lab: Lab, sofa: Sofa, at_work: "subprocess.Popen[str]", release: Path
) -> None:
    """With no journal that knows the rollout: the hosts' own records say what was wanted."""
    at_work.send_signal(signal.SIGKILL)
    at_work.wait()

    assert sofa("resume", "-y").code == 5
    ran = sofa("resume", "-y", "--force", "--bake", "0s")

    assert ran.code == 0, ran.said
    agrees(lab, "NEW", sha256(release))


def test_a_claim_is_freed_and_the_next_one_comes_in(
    lab: Lab, sofa: Sofa, at_work: "subprocess.Popen[str]", release: Path
) -> None:
    at_work.send_signal(signal.SIGKILL)
    at_work.wait()

    ran = sofa("unlock", "--force", "-y")
    assert ran.code == 0, ran.said
    assert "Released." in ran.said
    assert all(one["claim"] is None for one in status(lab).values())

    ran = sofa("commit", "-y")
    assert ran.code == 0, ran.said
    agrees(lab, "NEW", sha256(release))
