"""Interrupts: Ctrl-C once and twice, SIGTERM, SIGHUP, and a terminal that is closed."""

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import (
    FLEET,
    agrees,
    are_as_before,
    environment,
    fleet,
    journal_of,
    read,
    sha256,
    start,
    status,
)

BASE = sha256(DEFAULT_BASE)
UPGRADE = ("-y", "--settle", "500ms", "--batches", "1,100%", "--bake", "60s", "--output", "jsonl")
PATIENCE_S = 90.0
RESTING = {"OLD", "TRIAL", "NEW"}
SESSIONS = "ps -eo args= | grep -cE '[s]shd: root|[f]leet.pyz$' || true"


@pytest.fixture(scope="module")
def hosts(make_lab: MakeLab) -> Lab:
    return make_lab(2)


@pytest.fixture
def lab(hosts: Lab) -> Iterator[Lab]:
    """Two hosts on the release before, again after each test."""
    yield hosts
    for host in hosts.hosts:
        host.heal()
    fleet(hosts, "rollback", "-y")
    are_as_before(hosts, BASE)


def turned(lab: Lab, release: Path, word: str, *signals: signal.Signals) -> "tuple[int, str]":
    """The exit code and the output of an upgrade that gets these signals once the word is in its output."""
    process = start(lab, "upgrade", str(release), *UPGRADE)
    with process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if word in line:
                break
        for each in signals:
            process.send_signal(each)
        said += process.communicate(timeout=PATIENCE_S)[0]
    return process.returncode, said


def is_calm(lab: Lab, said: str) -> None:
    """The journal is whole, the resume line was printed, no connection is left, each host rests."""
    rollout = str(status(lab)[lab.hosts[0].name]["rollout"])
    assert f"fleet resume {rollout}" in said
    last = last_journaled(lab, rollout)
    assert (last["type"], last["result"], last["exit_code"]) == ("rollout_ended", "interrupted", 130)
    with sqlite3.connect(journal_of(lab)) as journal:
        assert journal.execute("pragma integrity_check").fetchone() == ("ok",)
    assert "no run holds it" in fleet(lab, "unlock").out
    assert {one["phase"] for one in status(lab).values()} <= RESTING
    for host in lab.hosts:
        until = time.monotonic() + PATIENCE_S
        while (left := host.sh(SESSIONS).strip()) != "0":
            assert time.monotonic() < until, f"{host.name}: {left} sessions are left"


def last_journaled(lab: Lab, rollout: str) -> dict[str, object]:
    """The last event of the rollout, as the journal has it."""
    event: dict[str, object] = json.loads(read(lab, "show", rollout, "--output", "jsonl").splitlines()[-1])
    return event


@pytest.mark.parametrize(
    "heard",
    [signal.SIGINT, *(pytest.param(other, marks=pytest.mark.long) for other in (signal.SIGTERM, signal.SIGHUP))],
)
def test_a_rollout_that_turns_back_comes_to_rest_and_is_resumed(heard: signal.Signals, lab: Lab, release: Path) -> None:
    code, said = turned(lab, release, '"batch_closed"', heard)

    assert code == 130, said
    is_calm(lab, said)
    ran = fleet(lab, "resume", "-y", "--bake", "0s")
    assert ran.code == 0, ran.said
    agrees(lab, "NEW", sha256(release))


@pytest.mark.parametrize(
    "step", ["launch", *(pytest.param(other, marks=pytest.mark.long) for other in ("swap", "drain"))]
)
def test_ctrl_c_in_a_step_takes_the_host_to_its_nearest_rest(step: str, lab: Lab, release: Path) -> None:
    code, said = turned(lab, release, f'"{step}"', signal.SIGINT)

    assert code == 130, said
    is_calm(lab, said)


def test_a_second_ctrl_c_ends_fleet_at_once_and_names_the_hosts_of_unknown_state(lab: Lab, release: Path) -> None:
    """The links are cut in mid-step; the hosts come to rest by themselves, and a resume goes on."""
    process = start(lab, "upgrade", str(release), *UPGRADE)
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if '"launch"' in line:
                break
        lab.hosts[0].cut()  # so that the first Ctrl-C alone would have to wait
        process.send_signal(signal.SIGINT)
        for line in process.stdout:
            if "no new host is begun" in line:
                break
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 130, said
    assert "not known to be at rest: lab-001" in said
    assert "fleet resume" in said

    lab.hosts[0].heal()
    lab.hosts[0].sh("while ps -eo args= | grep -q '[f]leet.pyz$'; do sleep 0.1; done", timeout_s=PATIENCE_S)
    ran = fleet(lab, "resume", "-y", "--bake", "0s")
    assert ran.code == 0, ran.said
    agrees(lab, "NEW", sha256(release))


def test_a_terminal_that_is_closed_turns_the_rollout_back(lab: Lab, release: Path) -> None:
    """A real terminal: its end sends SIGHUP, and from then on nothing that is written arrives."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [*FLEET, "upgrade", "-i", str(lab.inventory), str(release), *UPGRADE[:-2], "--output", "plain"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(lab),
        start_new_session=True,
    )
    os.close(slave)
    said = b""
    while b"upgraded" not in said:
        said += os.read(master, 4096)
    os.close(master)
    process.send_signal(signal.SIGHUP)
    assert process.wait(PATIENCE_S) == 130
    assert {one["phase"] for one in status(lab).values()} <= RESTING
    rollout = str(status(lab)[lab.hosts[0].name]["rollout"])
    assert last_journaled(lab, rollout)["result"] == "interrupted"
