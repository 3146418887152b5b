"""systemd is not run here: the outputs of `systemctl show` are recorded from memory of its format, unverified."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.onhost.packages.owner import owner_of
from fleet.onhost.preflight.service import package_lock, packaged, unit
from fleet.onhost.system.machine import Machine, Ran
from fleet.onhost.system.process import Process
from fleet.onhost.systemd.unit import PROPERTIES, Followed, followed, unit_of
from tests.support.onhost.recorded import PATH, RecordedMachine, a_look, a_master, a_subject

UNVERIFIED = {
    "good": "Type=forking\nPIDFile=/run/nginx.pid\nMainPID=812\nId=nginx.service\nActiveState=active\n",
    "var-run": "Type=forking\nPIDFile=/var/run/nginx.pid\nMainPID=812\nId=nginx.service\nActiveState=active\n",
    "simple": "Type=simple\nPIDFile=\nMainPID=812\nId=nginx.service\nActiveState=active\n",
    "notify": "Type=notify\nMainPID=812\nId=nginx.service\nActiveState=active\n",
    "no-pid-file": "Type=forking\nPIDFile=\nMainPID=812\nId=nginx.service\nActiveState=active\n",
    "other-pid-file": "Type=forking\nPIDFile=/run/other.pid\nMainPID=812\nId=nginx.service\nActiveState=active\n",
    "stale-main": "Type=forking\nPIDFile=/run/nginx.pid\nMainPID=700\nId=nginx.service\nActiveState=active\n",
    "by-hand-under-ssh": "Type=notify\nPIDFile=\nMainPID=99\nId=ssh.service\nActiveState=active\n",
}
SHOW = ("systemctl", "show", "--property=" + PROPERTIES, "nginx.service")


def a_host(shown: Ran | None, cgroup: str = "0::/system.slice/nginx.service\n") -> RecordedMachine:
    return RecordedMachine(
        texts={"/proc/812/cgroup": cgroup},
        stats={"/run/systemd/system": {}},
        runs={SHOW: shown} if shown else {},
        links={"/var/run/nginx.pid": "/run/nginx.pid"},
    )


@pytest.mark.parametrize(
    ("shown", "reasons"),
    [
        ("good", []),
        ("var-run", []),
        ("simple", ["unit_type"]),
        ("notify", ["unit_type"]),
        ("no-pid-file", ["unit_pid_file"]),
        ("other-pid-file", ["unit_pid_file"]),
        ("stale-main", ["unit_main_pid"]),
        ("by-hand-under-ssh", ["unit_main_pid"]),
    ],
)
def test_a_unit_is_judged_by_its_type_and_its_pid_file(shown: str, reasons: list[str]) -> None:
    assert [one.reason for one in unit(a_subject(a_host(Ran(0, UNVERIFIED[shown], 0.1))))] == reasons


def test_a_systemctl_that_does_not_answer_is_reported() -> None:
    assert [one.reason for one in unit(a_subject(a_host(None)))] == ["not_checked"]


def test_without_systemd_no_unit_is_asked_for() -> None:
    host = a_host(Ran(0, UNVERIFIED["simple"], 0.1))
    host.stats = {}

    assert unit(a_subject(host)) == []
    assert host.ran == []


@pytest.mark.parametrize(
    ("cgroups", "name"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("12:pids:/x\n1:name=systemd:/system.slice/system-nginx.slice/nginx@a.service\n0::/\n", "nginx@a.service"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", None),
        ("9:name=systemd:/\n0::/\n", None),
        ("", None),
    ],
)
def test_the_unit_is_read_from_the_control_group(cgroups: str, name: str | None) -> None:
    assert unit_of(cgroups) == name


@pytest.mark.parametrize(
    ("shown", "whom"),
    [
        ("good", Followed("nginx.service", 812)),
        ("stale-main", Followed("nginx.service", 700)),
        ("simple", None),
        ("by-hand-under-ssh", None),
    ],
)
def test_the_process_that_systemd_follows_counts_only_in_a_forking_unit(shown: str, whom: Followed | None) -> None:
    assert followed(a_host(Ran(0, UNVERIFIED[shown], 0.1)), 812) == whom


def test_without_systemd_or_its_answer_no_process_counts_as_followed() -> None:
    assert followed(a_host(None), 812) is None
    assert followed(a_host(Ran(0, UNVERIFIED["good"], 0.1), cgroup="0::/\n"), 812) is None


def test_the_holder_of_a_package_lock_is_named() -> None:
    host = RecordedMachine(
        locks={"/var/lib/dpkg/lock-frontend": 77}, processes=(Process(77, 1, 1, "S", 1, "apt-get upgrade"),)
    )

    (found,) = package_lock(host)

    assert (found.reason, "process 77 (apt-get upgrade)" in found.message) == ("package_lock", True)


def test_the_other_kind_of_lock_is_found_by_its_inode() -> None:
    locks = "1: FLOCK  ADVISORY  WRITE 88 08:01:4242 0 EOF\n2: POSIX  ADVISORY  READ 5 08:01:1 0 EOF\n"
    host = RecordedMachine(
        texts={"/proc/locks": locks}, stats={"/lib/apk/db/lock": {"st_dev": os.makedev(8, 1), "st_ino": 4242}}
    )

    assert ["process 88" in one.message for one in package_lock(host)] == [True]
    assert package_lock(RecordedMachine()) == []


def test_a_lock_that_a_process_really_holds_is_seen_without_being_taken(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    hold = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.lockf(f, 2); print('held', flush=True); sys.stdin.read()"
    machine = Machine()
    assert machine.locked_by(str(path)) is None
    with subprocess.Popen([sys.executable, "-c", hold, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"

        assert machine.locked_by(str(path)) == holder.pid

        holder.communicate()
    with path.open("w") as mine:
        fcntl.lockf(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)


DPKG = ("dpkg-query", "-S", PATH)
RPM = ("rpm", "-qf", "--queryformat", "%{NAME}\\n", PATH)
APK = ("apk", "info", "--who-owns", PATH)


@pytest.mark.parametrize(
    ("argv", "output", "package", "hold"),
    [
        (DPKG, "nginx: /usr/sbin/nginx\n", "nginx", "apt-mark hold nginx"),
        (
            ("dpkg-query", "-S", "/sbin/nginx"),
            "diversion by x from: /sbin/nginx\nnginx:amd64: /sbin/nginx\n",
            "nginx",
            "apt-mark hold nginx",
        ),
        (RPM, "nginx-core\n", "nginx-core", "dnf versionlock add nginx-core"),
        (
            APK,
            "/usr/sbin/nginx is owned by nginx-1.26.2-r0\n",
            "nginx",
            "apk add 'nginx=VERSION'",
        ),
    ],
)
def test_the_package_of_the_binary_is_named_with_how_to_hold_it(
    argv: tuple[str, ...], output: str, package: str, hold: str
) -> None:
    (found,) = packaged(a_subject(RecordedMachine(runs={argv: Ran(0, output, 0.1)}), a_master(), a_look(a_master())))

    assert package in found.message
    assert found.remedy == f"Hold the package: `{hold}`."


def test_debian_itself_says_that_its_nginx_is_a_package() -> None:
    owner = owner_of(Machine(), PATH)

    assert owner is not None
    assert owner.package.startswith("nginx")
    assert owner_of(Machine(), "/usr/local/nothing") is None
