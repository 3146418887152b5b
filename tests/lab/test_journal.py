"""The journal while real hosts are upgraded: the controller is killed, two runs use one journal, the disk is full."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import agrees, are_as_before, fleet, phases, read, sha256, start

BASE = sha256(DEFAULT_BASE)
QUICK = ("-y", "--settle", "500ms", "--output", "jsonl")
LONG_BAKE = (*QUICK, "--batches", "1,100%", "--bake", "120s")
PATIENCE_S = 120.0


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
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "fleet-test", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def wait_for(process: "subprocess.Popen[str]", kind: str, **wanted: object) -> None:
    """The running command has told such an event."""
    assert process.stdout is not None
    heard = []
    for line in process.stdout:
        heard.append(line)
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("type") == kind and all(event.get(name) == value for name, value in wanted.items()):
            return
    raise AssertionError(f"{kind} {wanted} was never told: {''.join(heard)}")


def history(lab: Lab) -> list[dict[str, Any]]:
    """The rollouts that the lab's journal knows, the newest first."""
    rollouts: list[dict[str, Any]] = json.loads(read(lab, "history", "--json"))["rollouts"]
    return rollouts


def shown(lab: Lab, rollout: str) -> list[dict[str, Any]]:
    """All events of a rollout, as its journal has them."""
    return [json.loads(line) for line in read(lab, "show", rollout, "--output", "jsonl").splitlines()]


def test_a_killed_controller_leaves_a_journal_with_every_host_it_touched_and_no_lock(lab: Lab, release: Path) -> None:
    process = start(lab, "upgrade", str(release), *LONG_BAKE)
    with process:
        wait_for(process, "step_started", step="drain")
        process.kill()
        process.wait()

    rollout = history(lab)[0]
    assert (rollout["stands"], rollout["result"]) == ("interrupted", None)
    told = [(event["type"], event["host"], event["step"]) for event in shown(lab, rollout["rollout"])]
    assert ("visit_started", "lab-001", None) in told
    assert ("step_started", "lab-001", "drain") in told
    assert not any(host == "lab-002" and step in ("swap", "launch", "drain") for _, host, step in told)

    ran = fleet(lab, "rollback", "-y")

    assert ran.code == 0, ran.said
    assert "lock" not in ran.said
    assert [run["result"] for run in history(lab)[0]["runs"]] == [None, "rolled_back"]


def test_two_runs_of_one_journal_are_kept_apart_and_a_rollback_takes_over(lab: Lab, release: Path) -> None:
    process = start(lab, "upgrade", str(release), *LONG_BAKE)
    with process:
        wait_for(process, "batch_closed", batch=1)

        assert history(lab)[0]["stands"] == "running"
        second = fleet(lab, "upgrade", str(release), "-y")
        assert second.code == 5, second.said
        assert f"pid {process.pid} on " in second.said
        assert phases(lab) == {"TRIAL", "OLD"}
        back = fleet(lab, "rollback", "-y")
        assert back.code == 0, back.said
        rest = process.communicate(timeout=PATIENCE_S)[0]

    assert process.returncode == 3, rest
    assert "taken over" in rest
    agrees(lab, "OLD", BASE)
    runs = history(lab)[0]["runs"]
    assert [(run["command"], run["result"]) for run in runs] == [("upgrade", "halted"), ("rollback", "rolled_back")]


def test_a_disk_that_fills_up_turns_the_run_back_and_no_rollback(lab: Lab, release: Path, small_disk: Path) -> None:
    journal = small_disk / "journal.db"
    process = start(lab, "upgrade", str(release), *LONG_BAKE, "--journal", str(journal))
    with process:
        wait_for(process, "batch_closed", batch=1)
        with filled(small_disk / "filler"):
            rest = process.communicate(timeout=PATIENCE_S)[0]

    last = json.loads([line for line in rest.splitlines() if line.startswith("{")][-1])
    assert (process.returncode, last["result"], last["exit_code"]) == (3, "halted", 3), rest
    assert f"Halted: The journal {journal} can't be written: database or disk is full" in last["message"]
    assert phases(lab) == {"TRIAL", "OLD"}

    ran = fleet(lab, "rollback", "-y", "--journal", str(journal))

    assert ran.code == 0, ran.said
    assert "without a journal" in ran.said
    agrees(lab, "OLD", BASE)
    (small_disk / "filler").unlink()
    assert "interrupted (no end recorded)" in read(lab, "history", "--journal", str(journal))


@contextmanager
def filled(path: Path) -> Iterator[None]:
    """A disk without a free byte, for as long as the block lasts: bytes that are freed are taken at once."""
    ended = threading.Event()

    def fill() -> None:
        with path.open("ab", buffering=0) as filler:
            while not ended.is_set():
                try:
                    filler.write(b"x" * 4096)
                except OSError:
                    ended.wait(0.05)

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
