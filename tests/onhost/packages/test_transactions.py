"""When a package was last installed: dpkg's log is recorded from Debian 12, rpm's time comes with the query."""

import time

import pytest

from fleet.onhost.packages.owner import Manager, Owner
from fleet.onhost.packages.transactions import installed_since, seconds_of, utc_of
from tests.support.onhost.recorded import RecordedMachine

LOG = """\
2026-11-22 08:00:00 status installed nginx:amd64 1.22.1-9+deb12u8
2026-11-23 10:00:04 upgrade nginx:amd64 1.22.1-9+deb12u8 1.22.1-9+deb12u9
2026-11-23 10:00:04 status unpacked nginx:amd64 1.22.1-9+deb12u9
2026-11-23 10:00:05 status installed nginx:amd64 1.22.1-9+deb12u9
2026-11-23 10:00:06 status installed nginx-common:all 1.22.1-9+deb12u9
"""
OWNER = Owner(Manager.DPKG, "nginx", "1.22.1-9+deb12u9")
INSTALLED_S = time.mktime((2026, 11, 23, 10, 0, 5, 0, 0, -1))


@pytest.mark.parametrize("name", ["dpkg.log", "dpkg.log.1"])
def test_dpkgs_log_says_when_the_package_was_installed_also_once_it_is_rotated(name: str) -> None:
    machine = RecordedMachine(texts={f"/var/log/{name}": LOG})

    assert installed_since(machine, OWNER, INSTALLED_S - 60) == INSTALLED_S
    assert installed_since(machine, OWNER, INSTALLED_S + 1) is None


def test_without_a_log_nothing_is_known() -> None:
    assert installed_since(RecordedMachine(), OWNER, 0.0) is None


def test_rpm_knows_when_it_installed_a_package() -> None:
    owner = Owner(Manager.RPM, "nginx", "1:1.20.1-22.el9", installed_at_s=1000.0)

    assert installed_since(RecordedMachine(), owner, 999.0) == 1000.0
    assert installed_since(RecordedMachine(), owner, 1001.0) is None
    assert installed_since(RecordedMachine(), owner._replace(installed_at_s=None), 0.0) is None


def test_a_time_of_a_record_is_read_back() -> None:
    assert seconds_of("1970-01-02T00:00:00.500Z") == 86400.5
    assert utc_of(86400.5) == "1970-01-02 00:00:00 UTC"
