"""The dead-man's switch on real hosts: nobody comes any more, and each goes back by itself, on time and without a loss."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE
from fleet.lab.traffic.load import Traffic
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import agrees, fleet, look, sha256, start, status

BASE = sha256(DEFAULT_BASE)
LEASE_S = 12.0
UPGRADE = ("-y", "--settle", "500ms", "--batches", "100%", "--lease", f"{LEASE_S:g}s")
PATIENCE_S = 90.0
WATCHERS = "ps -eo args= | grep -c '[w]atch /var/lib/fleet' || true"


@pytest.fixture(scope="module")
def hosts(make_lab: MakeLab) -> Lab:
    return make_lab(2)


@pytest.fixture
def lab(hosts: Lab) -> Iterator[Lab]:
    """Two hosts on the release before, again after each test, with nobody watching them."""
    yield hosts
    fleet(hosts, "rollback", "-y")
    agrees(hosts, "OLD", BASE)
    for host in hosts.hosts:
        nobody_watches(host)
        assert look(host).stray == ()


def nobody_watches(host: LabHost) -> None:
    wait_until_equal(lambda: host.sh(WATCHERS).strip(), "0", "no watcher is left")


def wait_until_equal(asked: Callable[[], object], wanted: object, what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while (found := asked()) != wanted:
        assert time.monotonic() < until, f"{what}: still {found!r}"
        time.sleep(0.1)


def held(lab: Lab, release: Path, *words: str) -> str:
    """Every host is held, and the controller dead; what it said."""
    process = start(lab, "upgrade", str(release), *UPGRADE, "--bake", "60s", "--output", "jsonl", *words)
    with process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if '"batch_closed"' in line:
                break
        process.send_signal(signal.SIGKILL)
    return said


def story(host: LabHost) -> list[dict[str, str]]:
    """The host's own journal."""
    text = host.sh("cat /var/lib/fleet/instances/*/journal.jsonl")
    return [json.loads(line) for line in text.splitlines()]


def seconds(entry: dict[str, str]) -> float:
    return datetime.fromisoformat(entry["at"].replace("Z", "+00:00")).timestamp()


def deadline(host: LabHost) -> float:
    """When the lease runs out, as seconds since 1970, by the host's own file."""
    lease = json.loads(host.sh("cat /var/lib/fleet/instances/*/lease.json"))
    return float(time.time() + lease["until_s"] - time.clock_gettime(time.CLOCK_BOOTTIME))


def test_hosts_whose_controller_was_killed_go_back_when_their_lease_runs_out(lab: Lab, release: Path) -> None:
    # What is still downloaded from the new workers may end, so the whole way back takes as long as the last of that.
    with Traffic({host.name: f"{host.address}:80" for host in lab.hosts}, slow_s=0.5) as traffic:
        held(lab, release)
        told = status(lab)
        due = {host.name: deadline(host) for host in lab.hosts}
        for host in lab.hosts:
            assert told[host.name]["phase"] == "TRIAL"
            assert 0 < told[host.name]["lease_left_s"] <= LEASE_S
        wait_until_equal(lambda: {one["phase"] for one in status(lab).values()}, {"OLD"}, "the hosts are OLD again")
        report = traffic.stop()

    assert report.failed("new") == 0, str(report)
    for host in lab.hosts:
        entries = story(host)
        began = [seconds(one) for one in entries if one.get("lease") == "ran_out"][-1]
        done = [seconds(one) for one in entries if one.get("lease") == "ended"][-1]
        print(f"{host.name}: began {began - due[host.name]:+.2f} s, OLD {done - due[host.name]:+.2f} s")
        assert abs(began - due[host.name]) < 2.0, "how long the way back then takes hangs on the machine's load"
    agrees(lab, "OLD", BASE)
    after = status(lab)
    assert all("lease ran out" in one["why"] and one["state"] == "rolled_back" for one in after.values())


def test_a_host_that_went_back_is_not_committed_and_a_resume_begins_it_again(lab: Lab, release: Path) -> None:
    held(lab, release)
    wait_until_equal(lambda: {one["phase"] for one in status(lab).values()}, {"OLD"}, "the hosts are OLD again")

    ran = fleet(lab, "commit", "-y")
    assert ran.code == 3, ran.said
    agrees(lab, "OLD", BASE)

    ran = fleet(lab, "resume", "-y", "--bake", "0s")
    assert ran.code == 0, ran.said
    agrees(lab, "NEW", sha256(release))


def test_a_lease_that_is_renewed_holds_for_as_long_as_the_rollout_takes(lab: Lab, release: Path) -> None:
    """Three leases' time goes by in the bake; the commit then ends it, and nobody watches any more."""
    ran = fleet(lab, "upgrade", str(release), *UPGRADE, "--bake", f"{3 * LEASE_S:g}s")

    assert ran.code == 0, ran.said
    agrees(lab, "NEW", sha256(release))
    assert all(one["lease_left_s"] is None for one in status(lab).values())
    for host in lab.hosts:
        assert not [one for one in story(host)[-40:] if one.get("lease") == "ran_out"]
        nobody_watches(host)


def test_without_a_lease_nobody_watches(lab: Lab, release: Path) -> None:
    ran = fleet(lab, "upgrade", str(release), *UPGRADE[:-2], "--bake", "0s", "--commit", "never")

    assert ran.code == 0, ran.said
    assert all(one["lease_left_s"] is None for one in status(lab).values())
    assert [host.sh(WATCHERS).strip() for host in lab.hosts] == ["0", "0"]


def test_a_reboot_voids_the_lease_and_the_commit_verifies_first(lab: Lab, release: Path) -> None:
    """The host came up with the new release by itself: it stays so, unconfirmed, until somebody decides."""
    held(lab, release)
    host = lab.hosts[0]
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
    process = start(lab, "upgrade", str(release), *UPGRADE, "--bake", "60s", "--output", "jsonl")
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if '"batch_closed"' in line:
                break
        host = lab.hosts[0]
        host.sh("kill -9 $(ps -eo pid=,args= | awk '/[w]atch .var.lib.fleet/ {print $1}')")
        wait_until_equal(lambda: host.sh(WATCHERS).strip(), "1", "a watcher is there again")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
