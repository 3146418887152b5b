"""systemd is not run here: the outputs of `systemctl show` are recorded from memory of its format, unverified."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.onhost.packages.owner import Manager, Owner
from fleet.onhost.packages.package_database import stamps
from fleet.onhost.preflight.service import package_lock, packaged, unit
from fleet.onhost.state.known_package import KnownPackage
from fleet.onhost.system.machine import Machine, Ran
from fleet.onhost.system.process import Process
from fleet.onhost.systemd.unit import PROPERTIES, Followed, followed, unit_of
from tests.support.onhost.kept import KeptInMemory
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


def test_the_package_of_the_binary_is_named_with_how_to_hold_it() -> None:
    machine = RecordedMachine()
    owner = Owner(Manager.RPM, "nginx-core", "1:1.20.1-22.el9")
    subject = a_subject(machine, a_master(), a_look(a_master()))
    kept = KeptInMemory(machine, package=KnownPackage(PATH, (), owner))
    assert packaged(subject) == []
    machine.texts["/usr/lib/sysimage/rpm/rpmdb.sqlite"] = ""
    kept.values["package.json"] = KnownPackage(PATH, stamps(machine), owner)

    (found,) = packaged(subject._replace(instance=subject.instance._replace(kept=kept)))

    assert "nginx-core 1:1.20.1-22.el9" in found.message
    assert found.remedy == "Hold the package: `dnf versionlock add nginx-core`."


def test_a_package_on_hold_is_no_warning() -> None:
    machine = RecordedMachine(texts={"/var/lib/dpkg/status": ""})
    known = KnownPackage(PATH, stamps(machine), Owner(Manager.DPKG, "nginx", "1.22.1-9", on_hold=True))
    subject = a_subject(machine, a_master(), a_look(a_master()))
    kept = KeptInMemory(machine, package=known)

    assert packaged(subject._replace(instance=subject.instance._replace(kept=kept))) == []
