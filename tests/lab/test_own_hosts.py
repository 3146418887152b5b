"""A host that is dead and was never in the rollout is no exit code: not of a commit, a rollback or a resume."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import Ran, environment, fleet, look, read, run, sha256, start

BASE = sha256(DEFAULT_BASE)
BRISK = ("-y", "--bake", "0s", "--settle", "500ms", "--batches", "1,100%")


@pytest.fixture(scope="module")
def hosts(make_lab: MakeLab) -> Lab:
    return make_lab(3)


@pytest.fixture
def lab(hosts: Lab) -> Iterator[Lab]:
    """Three hosts, of which lab-003 is switched off; all on the release before, again after each test."""
    hosts.hosts[2].kill()
    yield hosts
    hosts.hosts[2].boot()
    ran = fleet(hosts, "rollback", "-y")
    assert ran.code == 0, ran.said
    assert {look(host).running_sha256 for host in hosts.hosts} == {BASE}


def typed(lab: Lab, ran: Ran, words: str) -> Ran:
    """What the line with these words did, which the command printed, typed as it is."""
    (line,) = {line for line in re.findall(r"`(fleet [^`]+)`", ran.said) if words in line}
    return run(tuple(shlex.split(line)[1:]), environment(lab))


def running(lab: Lab, *names: str) -> set[str]:
    return {look(host).running_sha256 for host in lab.hosts if host.name in names}


def test_commit_and_rollback_are_about_the_hosts_of_the_rollout(lab: Lab, release: Path) -> None:
    ran = fleet(lab, "upgrade", str(release), *BRISK, "--commit", "never", "-l", "lab-001")
    assert ran.code == 0, ran.said

    for command, of in (
        ("commit", sha256(release)),
        ("commit", sha256(release)),
        ("rollback", BASE),
        ("rollback", BASE),
    ):
        ran = fleet(lab, command, "-y")
        assert ran.code == 0, ran.said
        assert "No answer from lab-003: never in rollout" in ran.err
        assert "lab-003" not in ran.out
        assert running(lab, "lab-001") == {of}
    assert json.loads(read(lab, "show", "--json"))["hosts"] == ["lab-001"]


def test_the_upgrade_that_a_dead_host_refuses_prints_the_line_that_leaves_it_out(lab: Lab, release: Path) -> None:
    ran = fleet(lab, "upgrade", str(release), *BRISK, "--max-failures", "1")
    assert ran.code == 2, ran.said
    assert "--max-failures does not cover preflight" in ran.err

    ran = typed(lab, ran, "-l '!lab-003'")

    assert ran.code == 0, ran.said
    assert running(lab, "lab-001", "lab-002") == {sha256(release)}
    ran = fleet(lab, "rollback", "-y")
    assert ran.code == 0, ran.said


def test_an_interrupted_rollout_is_resumed_beside_a_dead_host(lab: Lab, release: Path) -> None:
    words = (
        "upgrade",
        str(release),
        *BRISK[:1],
        "--settle",
        "500ms",
        "--bake",
        "10m",
        "-l",
        "!lab-003",
        "--output",
        "jsonl",
    )
    with start(lab, *words) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if '"batch_closed"' in line:
                break
        process.kill()

    ran = fleet(lab, "resume", "-y", "--bake", "0s")

    assert ran.code == 0, ran.said
    assert running(lab, "lab-001", "lab-002") == {sha256(release)}


def test_without_the_journal_the_dead_host_may_be_in_the_rollout(lab: Lab, release: Path, tmp_path: Path) -> None:
    assert fleet(lab, "upgrade", str(release), *BRISK, "--commit", "never", "-l", "lab-001").code == 0

    ran = fleet(lab, "rollback", "-y", "--journal", str(tmp_path / "other.db"))
    assert ran.code == 4, ran.said
    assert running(lab, "lab-001") == {BASE}

    ran = typed(lab, ran, "-l '!lab-003'")
    assert ran.code == 0, ran.said
