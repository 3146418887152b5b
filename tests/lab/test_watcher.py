"""The lease keeps its word on hosts with systemd: its watcher outlives the login, a kill and a reload of systemd."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE
from tests.lab.conftest import MakeLab
from tests.lab.test_lease import (
    LONG_S,
    SHORT_S,
    UPGRADE,
    WATCHERS,
    held,
    no_watcher_is_left,
    wait_until_equal,
    way_back,
)
from tests.support.lab.operator import agrees, fleet, sha256, status

BASE = sha256(DEFAULT_BASE)
UNITS = "systemctl list-units --all --plain --no-legend 'fleet-watch-*' | awk '{print $1, $4}'"
PID = "ps -eo pid=,args= | awk '/[w]atch .var.lib.fleet/ {print $1}'"


@pytest.fixture(scope="module")
def hosts(make_lab: MakeLab) -> Lab:
    return make_lab(1, {"lab-001": "systemd-sudo"})


@pytest.fixture
def lab(hosts: Lab) -> Iterator[Lab]:
    """A host whose logins end what they leave behind, on the release before, again after each test."""
    yield hosts
    fleet(hosts, "rollback", "-y")
    agrees(hosts, "OLD", BASE)
    no_watcher_is_left(hosts.hosts[0])


def hold(lab: Lab, release: Path) -> LabHost:
    """The host is held, with a lease that does not run out in a test."""
    words = (*UPGRADE, "--bake", "0s", "--commit", "never", "--lease", f"{LONG_S:g}s")
    ran = fleet(lab, "upgrade", str(release), *words)
    assert ran.code == 0, ran.said
    return lab.hosts[0]


def test_a_host_goes_back_by_itself_after_the_logout_that_ends_everything_else(lab: Lab, release: Path) -> None:
    host = lab.hosts[0]
    assert "KillUserProcesses=yes" in host.sh("loginctl show-user")

    rollout = held(lab, release, SHORT_S)
    wait_until_equal(lambda: host.sh("loginctl list-sessions --no-legend").strip(), "", "every login has ended")
    unit, state = host.sh(UNITS).split()
    assert state == "running"
    assert unit.startswith("fleet-watch-")
    way_back(host, rollout)

    agrees(lab, "OLD", BASE)
    wait_until_equal(lambda: host.sh(UNITS).strip(), "", "no unit is left")


def test_systemd_starts_a_watcher_again_that_was_killed_and_keeps_it_over_a_reload(lab: Lab, release: Path) -> None:
    host = hold(lab, release)
    before = host.sh(PID).strip()
    host.sh("systemctl daemon-reload; systemctl daemon-reexec")
    assert host.sh(PID).strip() == before

    host.sh(f"kill -9 {before}")
    wait_until_equal(lambda: host.sh(PID).strip() not in ("", before), True, "systemd started another watcher")
    wait_until_equal(lambda: status(lab)[host.name]["watcher"]["is_alive"], True, "status sees it")


@pytest.mark.long
def test_where_systemd_starts_no_unit_the_watcher_ends_at_logout_and_fleet_says_so(lab: Lab, release: Path) -> None:
    host = lab.hosts[0]
    host.sh("mv /usr/bin/systemd-run /usr/bin/systemd-run.away")
    try:
        words = (*UPGRADE, "--bake", "0s", "--commit", "never", "--lease", f"{LONG_S:g}s", "--output", "jsonl")
        ran = fleet(lab, "upgrade", str(release), *words)
        assert ran.code == 0, ran.said
        assert "watcher_ends_at_logout" in {one.get("reason") for one in ran.events}
        wait_until_equal(lambda: status(lab)[host.name]["watcher"]["is_alive"], False, "the logout ended the watcher")
    finally:
        host.sh("mv /usr/bin/systemd-run.away /usr/bin/systemd-run")


def test_a_watcher_that_was_stopped_by_hand_is_named_and_the_next_visit_starts_another(lab: Lab, release: Path) -> None:
    host = hold(lab, release)
    host.sh("systemctl stop 'fleet-watch-*'")
    no_watcher_is_left(host)

    told = status(lab)[host.name]
    assert told["watcher"]["is_alive"] is False
    assert told["watcher"]["seen_at"].startswith("20")
    shown = fleet(lab, "status").said
    assert "Lease: the watcher is dead since" in shown
    assert "Rolls itself back" not in shown
    assert host.sh(WATCHERS).strip() == "0"  # status changes nothing

    ran = fleet(lab, "resume", "-y", "--bake", "0s", "--commit", "never", "--lease", f"{LONG_S:g}s")
    assert ran.code == 0, ran.said
    assert status(lab)[host.name]["watcher"]["is_alive"] is True
