"""`--rehearse` from the command line to the host and back: what is shown, what the host notes, and what `off` leaves out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE, make_release
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import are_as_before, fleet, sha256

JOURNAL = "cat /var/lib/fleet/instances/*/journal.jsonl"


@pytest.fixture(scope="module")
def hosts(make_lab: MakeLab) -> Lab:
    return make_lab(2)


@pytest.fixture
def lab(hosts: Lab) -> Iterator[Lab]:
    """Two hosts on the release before, again after each test."""
    yield hosts
    fleet(hosts, "rollback", "-y")
    are_as_before(hosts, sha256(DEFAULT_BASE))


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return make_release("errors", tmp_path / "bad", version="1.22.8")


def noted(host: LabHost) -> list[dict[str, Any]]:
    """The rehearsals in the host's journal."""
    entries = [json.loads(line) for line in host.sh(JOURNAL).splitlines()]
    return [entry["rehearsal"] for entry in entries if "rehearsal" in entry]


def test_check_shows_what_each_host_rehearsed_and_the_host_notes_it(lab: Lab, release: Path) -> None:
    before = {host.name: len(noted(host)) if host.sh(f"{JOURNAL} 2>/dev/null || true") else 0 for host in lab.hosts}
    as_text = fleet(lab, "check", str(release))
    as_json = fleet(lab, "check", str(release), "--json")

    assert (as_text.code, as_json.code) == (0, 0), as_text.said + as_json.said
    for host, told in zip(lab.hosts, json.loads(as_json.out)["hosts"], strict=True):
        row = next(line for line in as_text.out.splitlines() if line.startswith(f"{host.name}  rehearsed"))
        assert "2 workers, 1 listener, 2 questions answered as by the running release (" in row
        found = told["rehearsal"]
        assert (found["workers"], found["questions"], found["alike"], found["lines"]) == (2, 2, 2, 0)
        assert (found["alone"], found["why_not"], found["disk_kb"]) == (False, None, 0)
        assert 0 < found["cpu_s"] <= found["took_s"] * 2
        assert found["memory_kb"] > 1000
        assert len(noted(host)) == before[host.name] + 2
        assert noted(host)[-1] == found


def test_a_host_rehearses_once_in_a_rollout_and_the_events_tell_of_it(lab: Lab, release: Path) -> None:
    ran = fleet(
        lab,
        "upgrade",
        str(release),
        "-y",
        "--bake",
        "0s",
        "--settle",
        "500ms",
        "--batches",
        "100%",
        "--output",
        "jsonl",
    )

    assert ran.code == 0, ran.said
    told = {(e["host"], e["ask"]): e["rehearsal"] for e in ran.events if "rehearsal" in e}
    assert set(told) == {(host.name, "stage") for host in lab.hosts}
    assert {one["alike"] for one in told.values()} == {2}


def test_a_release_that_the_rehearsal_refuses_is_shown_with_its_evidence(lab: Lab, bad: Path) -> None:
    ran = fleet(lab, "check", str(bad), "--json")

    assert ran.code == 2, ran.said
    for told in json.loads(ran.out)["hosts"]:
        assert told["can_be_upgraded"] is False
        assert (told["rehearsal"]["workers"], told["rehearsal"]["questions"], told["rehearsal"]["alike"]) == (2, 2, 0)


def test_off_warns_on_every_host_and_rehearses_nothing(lab: Lab, bad: Path) -> None:
    ran = fleet(lab, "check", str(bad), "--json", "--rehearse", "off")

    assert ran.code == 0, ran.said
    for host, told in zip(lab.hosts, json.loads(ran.out)["hosts"], strict=True):
        assert (told["can_be_upgraded"], told["rehearsal"]) == (True, None)
        assert [one["reason"] for one in told["findings"]] == ["rehearsal_off"], host.name


def test_a_resume_keeps_the_switch(lab: Lab, bad: Path) -> None:
    """The canary finds it then; a resume with the rehearsal on refuses it."""
    words = ("-y", "--bake", "0s", "--batches", "1,100%", "--on-failure", "halt")
    assert fleet(lab, "upgrade", str(bad), *words, "--rehearse", "off").code == 3

    kept = fleet(lab, "resume", "-y", "--output", "jsonl")
    given = fleet(lab, "resume", "-y", "--output", "jsonl", "--rehearse", "auto")

    assert kept.code == 3, kept.said
    assert {e["reason"] for e in kept.events if e["type"] == "finding"} == {"rehearsal_off"}
    assert given.code == 2, given.said
    assert [e for e in given.events if e["type"] == "step_started" and e["step"] != "stage"] == []
