"""The dead-man's switch on real hosts: without its controller each host goes back by itself, never early, without a loss.

No test here compares seconds that a busy machine may stretch. A lease that must run out is a short one, and its end is
awaited in the host's own journal; a lease that must not run out is a long one. How late a watcher may be is shown by
tests/onhost/state/test_lease.py, on a clock that is moved by hand.
"""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE
from fleet.lab.traffic.load import Traffic
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import agrees, are_as_before, fleet, sha256, start, status

BASE = sha256(DEFAULT_BASE)
SHORT_S = 12.0
"""Longer than one host may wait for the others of its batch, or it would go back while the test still upgrades."""
LONG_S = 3600.0
UPGRADE = ("-y", "--settle", "500ms", "--batches", "100%")
HANGS_S = 90.0
WATCHERS = "ps -eo args= | grep -c '[w]atch /var/lib/fleet' || true"

Event = dict[str, Any]


@pytest.fixture(scope="module")
def hosts(make_lab: MakeLab) -> Lab:
    return make_lab(2)


@pytest.fixture
def lab(hosts: Lab) -> Iterator[Lab]:
    """Two hosts on the release before, again after each test, without a watcher."""
    yield hosts
    fleet(hosts, "rollback", "-y")
    are_as_before(hosts, BASE)
    for host in hosts.hosts:
        no_watcher_is_left(host)


def no_watcher_is_left(host: LabHost) -> None:
    wait_until_equal(lambda: host.sh(WATCHERS).strip(), "0", "no watcher is left")


def wait_until_equal(asked: Callable[[], object], wanted: object, what: str) -> None:
    until = time.monotonic() + HANGS_S
    while (found := asked()) != wanted:
        assert time.monotonic() < until, f"{what}: still {found!r}"
        time.sleep(0.1)


def events_until(process: "subprocess.Popen[str]", wanted: Callable[[Event], bool]) -> list[Event]:
    """What a running command has said, up to the first event that is wanted."""
    assert process.stdout is not None
    said: list[Event] = []
    for line in process.stdout:
        if line.startswith("{"):
            said.append(json.loads(line))
            if wanted(said[-1]):
                return said
    raise AssertionError(f"the command ended without the event: {said[-1:]}")


def is_closing_batch(event: Event) -> bool:
    return bool(event["type"] == "batch_closed")


def held(lab: Lab, release: Path, lease_s: float) -> str:
    """Every host is held, and the controller was killed; the rollout's id."""
    words = (*UPGRADE, "--lease", f"{lease_s:g}s", "--bake", "60s", "--output", "jsonl")
    with start(lab, "upgrade", str(release), *words) as process:
        events = events_until(process, is_closing_batch)
        process.send_signal(signal.SIGKILL)
    assert {one["host"] for one in events if one.get("phase") == "TRIAL"} == {host.name for host in lab.hosts}
    return str(events[-1]["rollout"])


def journal(host: LabHost) -> list[dict[str, str]]:
    """The host's own journal."""
    text = host.sh("cat /var/lib/fleet/instances/*/journal.jsonl")
    return [json.loads(line) for line in text.splitlines()]


def way_back(host: LabHost, rollout: str) -> tuple[float, float]:
    """When the host was held, at the latest, and when it began to go back by itself, once it has done so.

    Both by the host's journal, in seconds since 1970.
    """

    def has_ended() -> bool:
        notes = [one for one in journal(host) if "lease" in one]
        return [one["lease"] for one in notes[-2:]] == ["ran_out", "ended"] and notes[-2]["rollout"] == rollout

    wait_until_equal(has_ended, True, f"{host.name} went back by itself")
    entries = journal(host)
    drained = [seconds(one) for one in entries if one.get("result") == "drain" and one["outcome"] == "done"][-1]
    return drained, [seconds(one) for one in entries if one.get("lease") == "ran_out"][-1]


def seconds(entry: dict[str, str]) -> float:
    return datetime.fromisoformat(entry["at"]).timestamp()


def test_hosts_whose_controller_was_killed_go_back_when_their_lease_runs_out(lab: Lab, release: Path) -> None:
    # Downloads from the new workers may end first, so the rollback takes as long as the last of them.
    with Traffic({host.name: f"{host.address}:80" for host in lab.hosts}, slow_s=0.5) as traffic:
        rollout = held(lab, release, SHORT_S)
        ways = {host.name: way_back(host, rollout) for host in lab.hosts}
        report = traffic.stop()

    assert report.failed("new") == 0, str(report)
    for name, (drained, began) in ways.items():
        assert began - drained >= SHORT_S, (
            f"{name}: the lease was renewed after the drain, and must hold for all its time"
        )
    agrees(lab, "OLD", BASE)
    after = status(lab)
    assert all("lease ran out" in one["why"] and one["state"] == "rolled_back" for one in after.values())


def test_a_host_that_went_back_is_not_committed_and_a_resume_begins_it_again(lab: Lab, release: Path) -> None:
    rollout = held(lab, release, SHORT_S)
    for host in lab.hosts:
        way_back(host, rollout)

    ran = fleet(lab, "commit", "-y")
    assert ran.code == 3, ran.said
    agrees(lab, "OLD", BASE)

    ran = fleet(lab, "resume", "-y", "--bake", "0s")
    assert ran.code == 0, ran.said
    agrees(lab, "NEW", sha256(release))


def test_a_look_of_the_bake_renews_the_lease_and_the_commit_ends_it(lab: Lab, release: Path) -> None:
    words = (*UPGRADE, "--lease", f"{LONG_S:g}s", "--bake", "3s", "--commit", "never", "--output", "jsonl")
    ran = fleet(lab, "upgrade", str(release), *words)
    assert ran.code == 0, ran.said
    for host in lab.hosts:
        looks = [one for one in ran.events if one["type"] == "visit_started" and one.get("ask") == "bake"]
        assert renewed(host) >= [seconds(one) for one in looks if one["host"] == host.name][-1]

    ran = fleet(lab, "commit", "-y")

    assert ran.code == 0, ran.said
    agrees(lab, "NEW", sha256(release))
    assert all(one["lease_left_s"] is None for one in status(lab).values())
    for host in lab.hosts:
        no_watcher_is_left(host)


def renewed(host: LabHost) -> float:
    """When the host's lease was renewed last, by its own file, in seconds since 1970."""
    lease = json.loads(host.sh("cat /var/lib/fleet/instances/*/lease.json"))
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return float(booted + lease["until_s"] - lease["lease_s"])


def test_without_a_lease_there_is_no_watcher(lab: Lab, release: Path) -> None:
    ran = fleet(lab, "upgrade", str(release), *UPGRADE, "--bake", "0s", "--commit", "never")

    assert ran.code == 0, ran.said
    assert all(one["lease_left_s"] is None for one in status(lab).values())
    assert [host.sh(WATCHERS).strip() for host in lab.hosts] == ["0", "0"]


def test_a_reboot_voids_the_lease_and_the_commit_verifies_first(lab: Lab, release: Path) -> None:
    """The reboot started the new release: it stays, unconfirmed, until an operator decides."""
    held(lab, release, LONG_S)
    host = lab.hosts[0]
    told = status(lab)[host.name]
    assert told["phase"] == "TRIAL"
    assert 0 < told["lease_left_s"] <= LONG_S
    host.kill()
    host.boot()
    told = status(lab)[host.name]
    assert (told["phase"], told["unconfirmed"], told["lease_left_s"]) == ("NEW", True, None)

    ran = fleet(lab, "commit", "-y", "-l", host.name, "--output", "jsonl")

    assert ran.code == 0, ran.said
    assert [one["step"] for one in ran.events if one["type"] == "step_ended"][:1] == ["verify"]
    told = status(lab)[host.name]
    assert (told["phase"], told["unconfirmed"], told["state"]) == ("NEW", False, "committed")


def test_a_watcher_that_was_killed_is_started_again_by_the_next_visit(lab: Lab, release: Path) -> None:
    words = (*UPGRADE, "--lease", f"{LONG_S:g}s", "--bake", "24s", "--commit", "never", "--output", "jsonl")
    host = lab.hosts[0]
    with start(lab, "upgrade", str(release), *words) as process:
        events_until(process, is_closing_batch)
        host.sh("kill -9 $(ps -eo pid=,args= | awk '/[w]atch .var.lib.fleet/ {print $1}')")
        wait_until_equal(lambda: host.sh(WATCHERS).strip(), "1", "a watcher is there again")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=HANGS_S)
