"""systemd is not run here: hosts answer `systemctl show` as recorded (tests/lab/test_unit_follows.py has real ones)."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.onhost.packages.owner import Manager, Owner
from fleet.onhost.packages.package_database import stamps
from fleet.onhost.packages.unattended import NO_CACHE, UNATTENDED
from fleet.onhost.preflight.service import exec_paths, package_lock, packaged, unit
from fleet.onhost.protocol import Severity
from fleet.onhost.state.known_package import KnownPackage
from fleet.onhost.system.machine import Machine, Ran
from fleet.onhost.system.process import Process
from fleet.onhost.systemd.by_hand import NOTIFY_SOCKET
from fleet.onhost.systemd.unit import FILE_PROPERTIES, PROPERTIES, RUNS_SYSTEMD
from tests.support.onhost.kept import KeptInMemory
from tests.support.onhost.recorded import PATH, RecordedMachine, a_look, a_master, a_subject

SHOWN = {
    "good": "Type=forking\nPIDFile=/run/nginx.pid\nMainPID=812\nId=nginx.service\nActiveState=active\n",
    "var-run": "Type=forking\nPIDFile=/var/run/nginx.pid\nMainPID=812\nId=nginx.service\nActiveState=active\n",
    "simple": "Type=simple\nPIDFile=\nMainPID=812\nId=nginx.service\nActiveState=active\n",
    "notify": "Type=notify\nMainPID=812\nId=nginx.service\nActiveState=active\n",
    "no-pid-file": "Type=forking\nPIDFile=\nMainPID=812\nId=nginx.service\nActiveState=active\n",
    "other-pid-file": "Type=forking\nPIDFile=/run/other.pid\nMainPID=812\nId=nginx.service\nActiveState=active\n",
    "stale-main": "Type=forking\nPIDFile=/run/nginx.pid\nMainPID=700\nId=nginx.service\nActiveState=active\n",
    "ended": "Type=forking\nPIDFile=/run/nginx.pid\nMainPID=0\nId=nginx.service\nActiveState=failed\n",
    "oneshot": "Type=oneshot\nRemainAfterExit=yes\nMainPID=0\nId=nginx.service\nActiveState=active\n",
    "main-pid-reload": "Type=forking\nPIDFile=/run/nginx.pid\nMainPID=812\nId=nginx.service\nActiveState=active\n"
    "ExecReload={ path=/bin/kill ; argv[]=/bin/kill -s HUP $MAINPID ; ignore_errors=no }\n",
    "kill-process": "Type=forking\nPIDFile=/run/nginx.pid\nMainPID=812\nId=nginx.service\nKillMode=process\n"
    "TimeoutStopUSec=1min 30s\n",
    "outdated": "Type=forking\nPIDFile=/run/nginx.pid\nMainPID=812\nId=nginx.service\nNeedDaemonReload=yes\n",
    "masked": "Type=\nPIDFile=\nMainPID=812\nId=nginx.service\nLoadState=masked\nActiveState=active\n",
    "gone-and-stale": "Type=\nPIDFile=\nMainPID=77\nId=nginx.service\nLoadState=not-found\nActiveState=active\n",
    "by-hand-under-ssh": "Type=notify\nPIDFile=\nMainPID=99\nId=ssh.service\nActiveState=active\n",
}
SHOW = ("systemctl", "show", "--property=" + PROPERTIES, "--", "nginx.service")


def a_host(shown: Ran | None, cgroup: str = "0::/system.slice/nginx.service\n") -> RecordedMachine:
    return RecordedMachine(
        texts={"/proc/812/cgroup": cgroup},
        stats={"/run/systemd/system": {}, NOTIFY_SOCKET: {}},
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
        ("ended", ["unit_ended"]),
        ("by-hand-under-ssh", ["unit_by_hand"]),
        ("masked", ["unit_lost"]),
        ("gone-and-stale", ["unit_lost"]),
        ("oneshot", []),
        ("main-pid-reload", ["unit_held"]),
        ("kill-process", ["unit_held"]),
        ("outdated", ["unit_outdated"]),
    ],
)
def test_a_unit_is_judged_by_its_type_and_its_pid_file(shown: str, reasons: list[str]) -> None:
    assert [one.reason for one in unit(a_subject(a_host(Ran(0, SHOWN[shown], 0.1))))] == reasons


def test_a_systemctl_that_does_not_answer_is_reported() -> None:
    assert [one.reason for one in unit(a_subject(a_host(None)))] == ["not_checked"]


def test_without_systemd_no_unit_is_asked_for() -> None:
    host = a_host(Ran(0, SHOWN["simple"], 0.1))
    host.stats = {}

    assert unit(a_subject(host)) == []
    assert host.ran == []


FILES = ("systemctl", "show", "--type=service", "--all", "--property=" + FILE_PROPERTIES, "--", "*", "nginx.service")
ENABLED = "Id=nginx.service\nPIDFile=/run/nginx.pid\nActiveState=failed\nLoadState=loaded\nUnitFileState=enabled\n"
OTHERS = "Id=cron.service\nPIDFile=\nActiveState=active\nLoadState=loaded\nUnitFileState=enabled\n\n"


@pytest.mark.parametrize(
    ("shown", "word", "says"),
    [
        (
            OTHERS + ENABLED,
            "started_beside_unit",
            "a boot starts nginx.service. Before that, `systemctl start nginx.service`",
        ),
        (OTHERS + ENABLED.replace("enabled", "disabled"), "started_beside_unit", "does not start nginx.service"),
        (OTHERS + ENABLED.replace("loaded", "masked"), "started_by_hand", "a boot does not start it"),
        (OTHERS + ENABLED.replace("/run/nginx.pid", "/run/other.pid"), "started_by_hand", "a boot does not start it"),
        (OTHERS + ENABLED + "\n" + ENABLED.replace("nginx.s", "web.s"), "started_by_hand", "a boot does not start it"),
    ],
)
def test_a_master_in_the_scope_of_a_login_was_started_by_hand(shown: str, word: str, says: str) -> None:
    host = a_host(None, "0::/user.slice/user-0.slice/session-5.scope\n")
    host.runs[FILES] = Ran(0, shown, 0.1)
    host.runs["loginctl", "show-user"] = Ran(0, "KillUserProcesses=no\n", 0.1)

    (found,) = unit(a_subject(host))

    assert (found.reason, found.severity) == (word, Severity.WARNING)
    assert says in found.message
    assert "It outlives that login" in found.message


def test_a_master_in_neither_a_unit_nor_a_login_draws_no_word() -> None:
    assert unit(a_subject(a_host(None, "0::/\n"))) == []


@pytest.mark.parametrize("why", ["no socket", "no capability"])
def test_a_main_process_of_which_systemd_can_not_be_told_is_refused_with_the_line_that_corrects_it(why: str) -> None:
    host = a_host(Ran(0, SHOWN["stale-main"], 0.1))
    if why == "no socket":
        del host.stats[NOTIFY_SOCKET]
    else:
        host.texts["/proc/self/status"] = "CapEff:\t000001ffffdfffff\n"

    (found,) = unit(a_subject(host))[:1]

    assert (found.reason, found.severity) == ("unit_main_pid_fixed", Severity.REFUSAL)
    assert "systemd-notify --pid=812" in found.remedy
    assert "systemctl reload" not in found.remedy


def test_a_unit_that_can_not_be_guarded_or_is_not_to_be_draws_a_warning_with_what_a_restart_would_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = a_host(Ran(0, SHOWN["kill-process"], 0.1))
    subject = a_subject(host)
    unwanted = subject._replace(request=subject.request._replace(options=subject.request.options._replace(guard=False)))

    (ours,) = unit(unwanted)
    monkeypatch.setattr(host, "may_write", lambda folder: folder != RUNS_SYSTEMD)
    (theirs,) = unit(subject)

    assert (ours.reason, theirs.reason) == ("no_guard", "guard_impossible")
    assert all("keeps the ports for 1min 30s" in one.message for one in (ours, theirs))


@pytest.mark.parametrize(
    ("mounts", "reasons"),
    [
        (
            "1 0 8:1 / / rw,noexec - ext4 /dev/sda1 rw\n2 1 8:1 /usr/sbin/nginx /usr/sbin/nginx rw - ext4 /dev/sda1 rw\n",
            1,
        ),
        ("1 0 8:1 / / rw,noexec - ext4 /dev/sda1 rw\n2 1 8:1 /usr/sbin /usr/sbin rw - ext4 /dev/sda1 rw\n", 0),
        ("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:1 /usr/sbin/nginx /usr/sbin/nginx ro - ext4 /dev/sda1 rw\n", 0),
        ("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n", 0),
    ],
    ids=["the file alone", "its folder", "a file that is read only", "none"],
)
def test_a_binary_that_only_a_mount_on_its_file_lets_execute_is_refused(mounts: str, reasons: int) -> None:
    host = RecordedMachine(texts={"/proc/812/mountinfo": mounts})

    found = exec_paths(a_subject(host, a_master(), a_look(a_master())))

    assert [one.reason for one in found] == ["exec_paths"] * reasons
    assert all("ExecPaths=/usr/sbin`" in one.remedy for one in found)


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
    assert found.remedy.startswith("Hold the package: `dnf versionlock add nginx-core`, or let fleet")


def test_what_the_package_manager_does_by_itself_is_named_unless_fleet_holds_the_package() -> None:
    unit = "apt-daily-upgrade.service"
    machine = RecordedMachine(
        texts={"/var/lib/dpkg/status": "", RUNS_SYSTEMD: "", UNATTENDED: ""},
        runs={
            ("systemctl", "is-active", unit): Ran(3, "activating\n", 0.1),
            ("apt-config", "shell", "every", "APT::Periodic::Unattended-Upgrade"): Ran(0, "every='1'\n", 0.1),
            ("apt-cache", *NO_CACHE, "policy", "nginx"): Ran(0, "nginx:\n  Candidate: 1.22.1-10\n", 0.1),
        },
    )
    known = KnownPackage(PATH, stamps(machine), Owner(Manager.DPKG, "nginx", "1.22.1-9"))
    subject = a_subject(machine, a_master(), a_look(a_master()))
    subject = subject._replace(instance=subject.instance._replace(kept=KeptInMemory(machine, package=known)))

    found = {one.reason: one for one in packaged(subject)}

    assert list(found) == ["packaged", "package_run_now", "package_upgrade_comes"]
    assert unit in found["package_run_now"].message
    assert (
        "unattended-upgrades: 1.22.1-9 is installed, and 1.22.1-10 is offered" in found["package_upgrade_comes"].message
    )
    assert "`apt-mark hold nginx`" in found["package_upgrade_comes"].remedy

    held = subject.request.options._replace(hold_package=True)
    assert packaged(subject._replace(request=subject.request._replace(options=held))) == []


def test_a_package_on_hold_is_no_warning() -> None:
    machine = RecordedMachine(texts={"/var/lib/dpkg/status": ""})
    known = KnownPackage(PATH, stamps(machine), Owner(Manager.DPKG, "nginx", "1.22.1-9", on_hold=True))
    subject = a_subject(machine, a_master(), a_look(a_master()))
    kept = KeptInMemory(machine, package=known)

    assert packaged(subject._replace(instance=subject.instance._replace(kept=kept))) == []
