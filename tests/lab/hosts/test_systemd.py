"""Hosts whose PID 1 is systemd: they boot, serve, lose their power and go as the other hosts do."""

import os
import resource
import subprocess
import urllib.request
from pathlib import Path

import pytest

from fleet.errors import Refused
from fleet.lab.folder import LabPaths
from fleet.lab.hosts import cgroup, nginx, systemd
from fleet.lab.hosts.lab_host import LabHost, Power
from fleet.lab.kinds import kind
from fleet.lab.kinds.all_kinds import KINDS
from fleet.lab.kinds.systemd_kinds import LOGOUT_KILLS
from fleet.lab.lab import Lab
from fleet.lab.processes import processes_of, wait_until
from fleet.lab.traffic.load import Traffic
from tests.lab.conftest import MakeLab
from tests.support.lab.nginx_host import NginxHost
from tests.support.lab.operator import agrees, fleet, look, sha256

WITHIN_S = 60.0
MOST_MEMORY_BYTES = 25 << 20


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(2, {"lab-001": "systemd", "lab-002": "systemd"})


@pytest.fixture
def host(lab: Lab) -> LabHost:
    return lab.host("lab-001")


def ssh(lab: Lab, *argv: str) -> str:
    """What the command, run by SSH on lab-001, has on its stdout."""
    told = ["ssh", "-F", str(lab.ssh_config), "lab-001", *argv]
    return subprocess.run(told, capture_output=True, text=True, check=True, timeout=WITHIN_S).stdout


def shown(host: LabHost, *properties: str) -> list[str]:
    """What systemd says of the unit of nginx."""
    return host.sh(f"systemctl show nginx --value -p {' -p '.join(properties)}").split()


def body(host: LabHost, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{host.address}{path}", timeout=WITHIN_S) as answer:
        return bytes(answer.read())


def inside(host: LabHost) -> list[int]:
    """The pids that the processes of the host have on this machine."""
    return [process.pid for process in processes_of(host.paths) if on_host(process.pid, host)]


def on_host(pid: int, host: LabHost) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{host.pid()}/ns/pid")
    except FileNotFoundError:
        return False


def test_the_whole_system_is_up_and_no_unit_has_failed(host: LabHost) -> None:
    assert host.sh("systemctl is-system-running --wait").strip() == "running"
    assert host.sh("systemctl list-units --failed --no-legend") == ""


def test_systemd_supervises_the_master_that_its_unit_has_started(host: LabHost) -> None:
    main, state = shown(host, "MainPID", "ActiveState")

    assert state == "active"
    assert main == host.sh(f"cat {nginx.PACKAGED.pid_file}").strip()
    assert host.sh(f"cat /proc/{main}/cgroup").splitlines()[-1] == "0::/system.slice/nginx.service"
    assert body(host, "/health") == b"ok\n"
    assert body(host, "/big.bin") == nginx.big_file()


def test_a_reload_and_a_restart_by_systemctl_work(host: LabHost) -> None:
    before = shown(host, "MainPID")

    host.sh("systemctl reload nginx")
    assert shown(host, "MainPID") == before
    host.sh("systemctl restart nginx")

    assert shown(host, "MainPID") != before
    assert body(host, "/health") == b"ok\n"


def test_a_login_has_a_session_of_logind(lab: Lab) -> None:
    said = ssh(lab, "cat /proc/self/cgroup; loginctl list-sessions --no-legend")

    group = next(line for line in said.splitlines() if line.startswith("0::"))
    assert group.startswith("0::/user.slice/user-0.slice/session-")
    assert "root" in said.splitlines()[-1]


def test_a_host_with_systemd_can_be_checked_with_the_inventory_of_the_lab(lab: Lab, release: Path) -> None:
    ran = fleet(lab, "check", str(release))

    assert ran.code == 0, ran.said


def test_an_upgrade_and_a_rollback_of_a_host_with_systemd_lose_nothing(lab: Lab, release: Path) -> None:
    before = {host.name: look(host) for host in lab.hosts}
    brisk = ("-y", "--bake", "0s", "--settle", "100ms", "--batches", "100%", "--commit", "never")

    with Traffic({host.name: NginxHost(host).target for host in lab.hosts}) as traffic:
        begun = fleet(lab, "upgrade", str(release), *brisk)
        assert begun.code == 0, begun.said
        agrees(lab, "TRIAL", sha256(release))
        back = fleet(lab, "rollback", "-y")
        assert back.code == 0, back.said
        report = traffic.stop()

    assert report.failed() == 0, str(report)
    for host in lab.hosts:
        assert look(host) == before[host.name]
        assert shown(host, "MainPID", "ActiveState") == [str(before[host.name].pid), "active"]


def test_a_host_sees_only_its_own_groups_and_no_other_hosts(lab: Lab, host: LabHost) -> None:
    assert host.sh("ls -d /sys/fs/cgroup/*/").split() == [
        f"/sys/fs/cgroup/{name}/" for name in ("init.scope", "system.slice", "user.slice")
    ]
    assert (
        len({os.readlink(f"/proc/{one.pid()}/ns/cgroup") for one in lab.hosts} | {os.readlink("/proc/self/ns/cgroup")})
        == 3
    )


def test_what_counts_for_the_whole_machine_can_not_be_changed_by_systemd(host: LabHost) -> None:
    rights = int(host.sh("grep CapBnd /proc/1/status").split()[1], 16)

    assert host.exec(["/bin/sh", "-c", "echo 1 >/proc/sys/kernel/sysrq"]).returncode != 0
    assert [right for right in (16, 17, 25) if rights >> right & 1] == []  # modules, raw I/O, the clock
    assert [name for name in os.listdir(f"/proc/{host.pid()}/root/dev") if Path("/dev", name).is_block_device()] == []


def test_a_unit_with_mounts_of_its_own_is_found_by_down_too(host: LabHost) -> None:
    host.sh("systemd-run --unit=private -p PrivateTmp=yes -p ProtectSystem=strict -p PrivateDevices=yes sleep 4712")

    sleeping = host.sh("systemctl show private --value -p MainPID").strip()

    assert wait_until(lambda: sleeping in inner_pids(inside(host)), within_s=WITHIN_S)
    host.sh("systemctl stop private")


def inner_pids(pids: list[int]) -> set[str]:
    """The pids that these processes have on their host."""
    found = set()
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except FileNotFoundError:
            continue
        found |= {line.split()[-1] for line in lines if line.startswith("NSpid:")}
    return found


def test_a_host_takes_little_memory(host: LabHost) -> None:
    shares = [
        int(Path(f"/proc/{pid}/smaps_rollup").read_text().partition("\nPss:")[2].split()[0]) for pid in inside(host)
    ]

    assert len(shares) >= 8
    assert sum(shares) << 10 < MOST_MEMORY_BYTES


def test_a_host_that_lost_its_power_boots_again_from_its_disk(lab: Lab) -> None:
    host = lab.host("lab-002")
    host.sh("echo kept >/root/mark; mkdir -p /run/systemd/system/nginx.service.d; touch /run/mark")
    boot_id = host.sh("cat /proc/sys/kernel/random/boot_id")

    host.kill()
    assert host.power is Power.OFF
    assert cgroup.groups(host.paths, host.entry.number) == ()
    host.boot()

    assert host.sh("cat /root/mark; ls /run/mark /run/systemd/system/nginx.service.d 2>/dev/null || true") == "kept\n"
    assert host.sh("cat /proc/sys/kernel/random/boot_id") != boot_id
    assert shown(host, "ActiveState") == ["active"]
    assert body(host, "/health") == b"ok\n"


def test_the_boot_log_has_the_warnings_of_the_journal(host: LabHost) -> None:
    host.sh("echo '<3>the disk is on fire' >/run/told; systemd-cat --level-prefix=yes cat /run/told; journalctl --sync")

    assert "the disk is on fire" in host.boot_log()


SESSIONS = """
for session in $(loginctl list-sessions --no-legend | awk '{print $1}'); do
    loginctl show-session --value --property State $session
done
"""


def test_a_logout_ends_what_a_login_left_running_where_logind_is_told_so(make_lab: MakeLab) -> None:
    lab = make_lab(1, {"lab-001": "systemd-sudo"})
    host = lab.host("lab-001")

    def runs(seconds: int) -> bool:
        return host.exec(["pgrep", "-fx", f"sleep {seconds}"]).returncode == 0

    ssh(lab, "sudo -n /bin/sh -c 'systemd-run -q --unit=kept sleep 4714'")
    leave_behind(lab, host, 4713)
    assert wait_until(lambda: not runs(4713), within_s=WITHIN_S)
    assert host.sh("systemctl is-active kept").strip() == "active"

    host.sh(f"rm {LOGOUT_KILLS[0]}; systemctl restart systemd-logind")
    leave_behind(lab, host, 4715)
    assert host.sh("systemctl list-jobs --no-legend") == ""
    assert runs(4715)


def leave_behind(lab: Lab, host: LabHost, seconds: int) -> None:
    """A login has ended that has started a process that sleeps so long."""
    ssh(lab, f"nohup sleep {seconds} >/dev/null 2>&1 </dev/null & until pgrep -fx 'sleep {seconds}'; do :; done")
    assert wait_until(lambda: set(host.sh(SESSIONS).split()) <= {"closing"}, within_s=WITHIN_S)


def test_a_unit_can_not_start_beside_an_nginx_that_was_started_by_hand(make_lab: MakeLab) -> None:
    host = make_lab(1, {"lab-001": "systemd-by-hand"}).host("lab-001")

    assert host.exec(["systemctl", "start", "nginx"]).returncode != 0

    assert "still could not bind" in host.sh("journalctl --boot --quiet -u nginx; cat /var/log/nginx/error.log")
    assert body(host, "/health") == b"ok\n"


# What a machine may lack


def test_a_program_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "REQUIRED", ("dbus-demon:dbus", "/lib/*/security/pam_sistemd.so:libpam-systemd"))

    with pytest.raises(Refused, match=r"dbus-demon, /lib/\*/security/pam_sistemd.so") as refused:
        kind.check(KINDS["systemd"])

    assert refused.value.remedy.endswith("--no-install-recommends dbus libpam-systemd")


def test_a_lab_for_which_the_kernel_has_too_few_watches_is_refused_before_anything_is_made(paths: LabPaths) -> None:
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    # For a process that may open no more files the kernel gives the same error as for a user with too many watches.
    taken = {int(name) for name in os.listdir("/proc/self/fd")}
    fourth_free = [number for number in range(len(taken) + 5) if number not in taken][3]
    resource.setrlimit(resource.RLIMIT_NOFILE, (fourth_free, usual[1]))
    try:
        with pytest.raises(Refused, match="no inotify instances left for 2 hosts") as refused:
            Lab.up(paths.name, 2, {"lab-001": "systemd", "lab-002": "systemd"}, paths.root)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)

    assert "sysctl fs.inotify.max_user_instances=" in refused.value.remedy
    assert not paths.folder.exists()
