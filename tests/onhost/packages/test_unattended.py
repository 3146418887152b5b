"""Whether the package manager may upgrade nginx by itself. apt's answers are recorded from Debian 12, dnf's by hand."""

import pytest

from fleet.onhost.packages.owner import Manager, Owner
from fleet.onhost.packages.unattended import NO_CACHE, UNATTENDED, Coming, coming_upgrade, running_upgrade
from fleet.onhost.system.machine import Ran
from tests.support.onhost.recorded import RecordedMachine

DPKG = Owner(Manager.DPKG, "nginx", "1.22.1-9+deb12u8")
RPM = Owner(Manager.RPM, "nginx", "1:1.20.1-22.el9")
ASKED = ("apt-config", "shell", "every", "APT::Periodic::Unattended-Upgrade")
POLICY = ("apt-cache", *NO_CACHE, "policy", "nginx")
SYSTEMD = "/run/systemd/system"


def policy(candidate: str) -> str:
    return f"nginx:\n  Installed: 1.22.1-9+deb12u8\n  Candidate: {candidate}\n  Version table:\n *** 1.22.1-9+deb12u8 500\n"


def debian(every: str = "every='1'\n", candidate: str = "1.22.1-9+deb12u9", installed: bool = True) -> RecordedMachine:
    runs = {ASKED: Ran(0, every, 0.1), POLICY: Ran(0, policy(candidate), 0.5)}
    return RecordedMachine(texts={UNATTENDED: ""} if installed else {}, runs=runs)


def test_an_offered_version_comes_by_itself_where_unattended_upgrades_is_on() -> None:
    change = "1.22.1-9+deb12u8 is installed, and 1.22.1-9+deb12u9 is offered"

    assert coming_upgrade(debian(), DPKG) == Coming("unattended-upgrades", change)


@pytest.mark.parametrize(
    "machine",
    [
        debian(every="every='0'\n"),
        debian(every=""),
        debian(candidate="1.22.1-9+deb12u8"),
        debian(candidate="(none)"),
        debian(installed=False),
    ],
    ids=["off", "not set", "nothing newer", "no candidate", "not installed"],
)
def test_no_upgrade_comes_by_itself(machine: RecordedMachine) -> None:
    assert coming_upgrade(machine, DPKG) is None


def test_apt_is_asked_for_its_candidate_only_where_unattended_upgrades_is_on() -> None:
    """It costs apt half a second."""
    machine = debian(every="every='0'\n")

    coming_upgrade(machine, DPKG)

    assert machine.ran == [ASKED]


def systemd(said: str, *units: str) -> RecordedMachine:
    return RecordedMachine(texts={SYSTEMD: ""}, runs={("systemctl", "is-active", *units): Ran(3, said, 0.1)})


def test_dnfs_timer_installs_what_is_newer() -> None:
    machine = systemd("inactive\nactive\n", "dnf-automatic.timer", "dnf-automatic-install.timer")

    coming = coming_upgrade(machine, RPM)

    assert coming is not None
    assert coming.by == "dnf-automatic-install.timer"
    assert coming_upgrade(RecordedMachine(), RPM) is None


@pytest.mark.parametrize(("state", "runs"), [("activating", True), ("inactive", False)])
def test_an_upgrade_that_runs_just_now_is_seen(state: str, runs: bool) -> None:
    unit = "apt-daily-upgrade.service"

    assert running_upgrade(systemd(state + "\n", unit), DPKG) == (unit if runs else None)
    assert running_upgrade(RecordedMachine(), DPKG) is None
