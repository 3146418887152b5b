"""The lab itself: its hosts are isolated from each other, and `down` leaves nothing of them."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from fleet.errors import LockHeld, Refused
from fleet.lab import network, requirements
from fleet.lab.folder import LabPaths, Owner, locked, read_state, write_state
from fleet.lab.hosts import cgroup, nginx
from fleet.lab.hosts.lab_host import LabHost, Power
from fleet.lab.lab import Lab, clear_abandoned, down
from fleet.lab.processes import alive, processes_of, started, this_process, wait_until
from tests.lab.conftest import MakeLab

NAMESPACES = ("pid", "mnt", "uts", "ipc", "net")
WITHIN_S = 60.0


def left_of(paths: LabPaths) -> list[str]:
    """Everything of a lab that is on this machine."""
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"{paths.folder}/" in line]
    processes = [f"process {process.pid}" for process in processes_of(paths)]
    groups = [str(group) for group in cgroup.groups(paths)]
    lock = paths.root / ".locks" / paths.name
    files = [str(path) for path in (paths.folder, lock) if path.exists()]
    return [*mounts, *processes, *network.links(paths), *groups, *files]


def fetch(host: LabHost, path: str) -> tuple[str, str]:
    """The body and the Server header that the host answers to the machine."""
    with urllib.request.urlopen(f"http://{host.address}{path}", timeout=WITHIN_S) as answer:
        return answer.read().decode(), answer.headers["Server"]


def ssh(lab: Lab, host: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", "-F", str(lab.ssh_config), host, *argv], capture_output=True, text=True, timeout=WITHIN_S
    )


# Hosts


def test_ssh_reaches_every_host_with_nothing_but_the_config_of_the_lab(lab: Lab) -> None:
    said = [ssh(lab, host.name, "hostname; id -u").stdout.split() for host in lab.hosts]

    assert said == [[host.name, "0"] for host in lab.hosts]


def test_every_host_has_its_own_host_key_and_another_one_is_not_accepted(lab: Lab, tmp_path: Path) -> None:
    keys = [line.split() for line in lab.known_hosts.read_text().splitlines()]
    assert len({key for _, _, key in keys}) == len(lab.hosts)

    swapped = tmp_path / "known_hosts"
    swapped.write_text(f"{keys[0][0]} ssh-ed25519 {keys[1][2]}\n")
    done = ssh(lab, lab.hosts[0].name, "-o", f"UserKnownHostsFile={swapped}", "true")

    assert done.returncode == 255


def test_sftp_works(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("by sftp")

    argv = ["sftp", "-F", str(lab.ssh_config), "-b", "-", "lab-001"]
    subprocess.run(argv, input=f"put {tmp_path}/file /tmp/file\n".encode(), check=True, capture_output=True)

    assert lab.host("lab-001").sh("cat /tmp/file") == "by sftp"


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_no_two_hosts_share_a_namespace_nor_does_the_machine(lab: Lab, namespace: str) -> None:
    seen = {os.readlink(f"/proc/{host.pid()}/ns/{namespace}") for host in lab.hosts}

    assert len(seen | {os.readlink(f"/proc/self/ns/{namespace}")}) == len(lab.hosts) + 1


def test_a_host_sees_programs_of_the_machine_but_none_of_its_settings_homes_or_projects(lab: Lab) -> None:
    host = lab.host("lab-001")

    names = set(host.sh("ls -A /").split())
    assert names <= {"bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr", ".machine", "boot"} | {
        *("dev", "etc", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "var")
    }
    for folder in (".machine", "opt", "mnt", "srv", "media", "var/tmp", "usr/local/lib", "var/log/apt"):
        assert host.sh(f"ls -A /{folder} 2>/dev/null || true") == "", folder
    assert host.sh("ls -A /root /home /home/deploy").split() == [
        "/home:",
        "deploy",
        "/home/deploy:",
        ".ssh",
        "/root:",
        ".ssh",
    ]
    assert host.sh("ls /var/lib").split() == ["nginx"]
    assert [line.split(":")[0] for line in host.sh("cat /etc/shadow").splitlines()] == ["root", "deploy"]


def test_a_file_written_on_a_host_stays_on_that_host(lab: Lab) -> None:
    first, second, _ = lab.hosts

    first.sh("echo mine >/usr/bin/mine; echo mine >/tmp/mine; echo mine >/var/lib/mine")

    assert second.exec(["ls", "/usr/bin/mine", "/tmp/mine", "/var/lib/mine"]).stdout == b""
    assert not any(Path(path).exists() for path in ("/usr/bin/mine", "/tmp/mine", "/var/lib/mine"))


def test_every_host_has_its_own_machine_id_boot_id_and_name(lab: Lab) -> None:
    for file in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id", "/etc/hostname"):
        assert len({host.sh(f"cat {file}") for host in lab.hosts}) == len(lab.hosts)


def test_nginx_serves_the_machine_and_says_its_version(lab: Lab) -> None:
    host = lab.host("lab-002")

    version = host.sh(f"{nginx.PROGRAM} -v 2>&1").strip().rpartition(" ")[2]
    assert fetch(host, "/health") == ("ok\n", version)
    assert fetch(host, "/")[0] == f"{version} on lab-002\n"
    with urllib.request.urlopen(f"http://{host.address}/big.bin", timeout=WITHIN_S) as answer:
        assert answer.read() == nginx.big_file()


def test_nginx_is_a_daemon_under_a_pid_1_that_reaps_it(make_lab: MakeLab) -> None:
    host = make_lab(1).host("lab-001")
    master = host.sh(f"cat {nginx.PID_FILE}").strip()
    assert host.sh(f"ps -o ppid= -p {master}").strip() == "1"
    assert host.sh(f"ps -o args= --ppid {master}").split("\n").count("nginx: worker process") == 2
    assert "start worker processes" in host.sh(f"cat {nginx.ERROR_LOG}")

    host.sh(f"kill -QUIT {master}")

    # A master without a parent that waits for it would stay in the list as a zombie.
    assert wait_until(lambda: host.exec(["ps", "-p", master]).returncode != 0, within_s=WITHIN_S)


def test_nothing_leads_out_of_the_lab(lab: Lab) -> None:
    routes = lab.host("lab-001").sh("ip route; ip -6 route").split("\n")

    assert [route for route in routes if route and not route.startswith(f"{lab.hosts[0].subnet} dev eth0")] == []


def test_the_inventory_names_every_host_and_how_to_get_there(lab: Lab) -> None:
    text = lab.inventory.read_text()

    assert f'ansible_ssh_private_key_file: "{lab.private_key}"' in text
    assert f'fleet_known_hosts: "{lab.known_hosts}"' in text
    assert [f'{host.name}: {{ansible_host: "{host.address}", zone: ' in text for host in lab.hosts] == [True] * 3


def test_a_command_that_takes_too_long_is_ended_on_the_host_too(lab: Lab) -> None:
    host = lab.host("lab-003")

    with pytest.raises(subprocess.TimeoutExpired):
        host.exec(["sleep", "4711"], timeout_s=0.2)

    assert wait_until(lambda: host.exec(["pgrep", "-fx", "sleep 4711"]).returncode == 1, within_s=WITHIN_S)


def test_a_folder_of_the_machine_can_be_shown_but_not_written(make_lab: MakeLab, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("a tool")
    host = make_lab(1, show=[str(tmp_path)]).host("lab-001")

    assert host.sh(f"cat {tmp_path}/tool") == "a tool"
    assert host.exec(["touch", f"{tmp_path}/tool"]).returncode != 0


# Lines and power


def test_a_cut_line_is_silent_and_a_healed_one_continues(lab: Lab) -> None:
    host = lab.host("lab-001")
    with socket.create_connection((host.address, 80), timeout=WITHIN_S) as connection:
        host.cut()
        assert power_of(lab, host.name) is Power.CUT
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)

        host.heal()
        connection.settimeout(WITHIN_S)

        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert power_of(lab, host.name) is Power.ON


def test_a_line_that_is_cut_for_one_port_carries_the_others(lab: Lab) -> None:
    host = lab.host("lab-001")
    with socket.create_connection((host.address, 80), timeout=WITHIN_S) as connection:
        host.cut(22)
        with pytest.raises(TimeoutError):
            socket.create_connection((host.address, 22), timeout=0.5)
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")

    host.heal()

    with socket.create_connection((host.address, 22), timeout=WITHIN_S) as connection:
        assert connection.recv(64).startswith(b"SSH-2.0")


def power_of(lab: Lab, host: str) -> Power:
    return lab.host(host).power


def test_a_slow_line_has_a_bucket_at_both_ends_and_loses_what_it_should(lab: Lab) -> None:
    host = lab.host("lab-002")
    link = lab.paths.link(host.entry.number)

    host.slow(rate="10mbit", loss_percent=50)

    assert "tbf" in host.sh("tc qdisc show dev eth0")
    shown = subprocess.run(["tc", "qdisc", "show", "dev", link], capture_output=True, text=True).stdout
    assert "rate 10Mbit" in shown
    assert 100 < arriving(host, datagrams=400) < 300
    assert arriving(host, datagrams=400) == 400
    assert "tbf" not in host.sh("tc qdisc show dev eth0")


def arriving(host: LabHost, datagrams: int) -> int:
    """How many of so many datagrams reach the host: it counts those for a port without a socket. The line is whole then."""

    def counted() -> int:
        rows = [line.split() for line in host.sh("grep ^Udp: /proc/net/snmp").splitlines()]
        return int(dict(zip(*rows, strict=True))["NoPorts"])

    before = counted()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(datagrams):
            sender.sendto(b"x", (host.address, 9))
    host.slow()
    # What was sent before it is there once this has been answered.
    socket.create_connection((host.address, 22), timeout=WITHIN_S).close()
    return counted() - before


@pytest.mark.parametrize(("rate", "loss"), [("fast", 0.0), ("0mbit", 0.0), ("10mbit; reboot", 0.0), (None, 100.0)])
def test_a_line_that_makes_no_sense_is_refused(lab: Lab, rate: str | None, loss: float) -> None:
    with pytest.raises(Refused):
        lab.host("lab-001").slow(rate, loss)


def test_a_host_that_lost_its_power_comes_back_with_the_files_on_its_disk(make_lab: MakeLab) -> None:
    lab = make_lab(2)
    host, other = lab.hosts
    host.sh("echo kept >/root/mark; echo gone >/run/mark")
    boot_id = host.sh("cat /proc/sys/kernel/random/boot_id")

    host.kill()

    assert (host.power, other.power) == (Power.OFF, Power.ON)
    with pytest.raises(Refused, match="is powered off"):
        host.exec(["true"])
    host.boot()
    assert host.sh("cat /root/mark; ls /run/mark 2>/dev/null || true") == "kept\n"
    assert host.sh("cat /proc/sys/kernel/random/boot_id") != boot_id
    assert fetch(host, "/health")[0] == "ok\n"
    assert ssh(lab, host.name, "true").returncode == 0


def test_a_host_that_is_on_is_not_booted_again(lab: Lab) -> None:
    with pytest.raises(Refused, match="is powered on already"):
        lab.host("lab-001").boot()


# Coming and going


def test_a_lab_that_is_down_has_left_nothing(paths: LabPaths) -> None:
    lab = Lab.up(paths.name, 3, {"lab-003": "pids-short"}, paths.root)
    assert len(left_of(lab.paths)) > 10

    lab.down()

    assert left_of(lab.paths) == []
    assert Lab.find(paths.name, paths.root) is None


def test_taking_down_one_lab_leaves_another_as_it_was(make_lab: MakeLab, lab: Lab) -> None:
    before = left_of(lab.paths)

    make_lab(2).down()

    assert left_of(lab.paths) == before
    assert fetch(lab.host("lab-001"), "/health")[0] == "ok\n"


def test_a_lab_is_found_again_by_its_name(lab: Lab) -> None:
    found = Lab.find(lab.name)

    assert found is not None
    assert [(host.name, host.address, host.pid()) for host in found.hosts] == [
        (host.name, host.address, host.pid()) for host in lab.hosts
    ]


def test_a_second_up_of_the_same_name_is_refused_while_the_owner_lives(lab: Lab) -> None:
    with pytest.raises(Refused, match=f"its owner, process {os.getpid()}, still runs"):
        Lab.up(lab.name, 1)

    assert fetch(lab.host("lab-001"), "/health")[0] == "ok\n"


def test_a_second_up_of_a_lab_without_owner_is_refused_with_the_remedy(paths: LabPaths) -> None:
    Lab.up(paths.name, 1, state=paths.root)

    with pytest.raises(Refused, match=f"fleet lab down --name {paths.name}"):
        Lab.up(paths.name, 1, state=paths.root)

    assert clear_abandoned(paths.root) == ()


def test_nothing_is_changed_while_another_process_brings_the_lab_up(paths: LabPaths) -> None:
    with locked(paths, "bring up"), pytest.raises(LockHeld):
        down(paths)


def test_a_lab_whose_owner_is_gone_is_cleared_and_its_name_is_free(paths: LabPaths) -> None:
    script = "up(name, 2, state=root, owner=this_process())"
    subprocess.run(upping(paths, script), check=True)
    assert left_of(paths) != []

    again = Lab.up(paths.name, 1, state=paths.root, owner=this_process())
    assert len(again.hosts) == 1
    again.down()
    assert left_of(paths) == []

    subprocess.run(upping(paths, script), check=True)
    assert clear_abandoned(paths.root) == (paths.name,)
    assert left_of(paths) == []


def upping(paths: LabPaths, script: str) -> list[str]:
    """The command of a process that brings a lab up."""
    words = f"from pathlib import Path; from fleet.lab.lab import Lab; name, root = {paths.name!r}, Path({str(paths.root)!r})"
    return [sys.executable, "-c", f"{words}; from fleet.lab.processes import this_process; up = Lab.up; {script}"]


@pytest.mark.parametrize("far", ["mount", "bridge", "host", "group", "ready"])
def test_an_up_that_is_killed_leaves_nothing_that_down_does_not_find(paths: LabPaths, far: str) -> None:
    reached = {
        "mount": lambda: paths.disks.is_mount(),
        "bridge": lambda: paths.prefix in network.links(paths),
        "host": lambda: processes_of(paths) != (),
        "group": lambda: cgroup.groups(paths) != (),
        "ready": lambda: paths.known_hosts.exists(),
    }[far]
    script = "up(name, 8, {'lab-001': 'systemd', 'lab-002': 'systemd'}, state=root)"
    with subprocess.Popen(upping(paths, script)) as process:
        assert wait_until(reached, within_s=WITHIN_S)
        process.send_signal(signal.SIGKILL)

    assert down(paths)

    assert left_of(paths) == []


def test_a_lab_that_lost_its_notes_is_taken_down_by_its_name_alone(paths: LabPaths) -> None:
    lab = Lab.up(paths.name, 2, state=paths.root)
    lab.paths.state.write_text("{")
    for host in lab.hosts:
        lab.paths.pid_file(host.name).unlink()

    assert down(lab.paths)

    assert left_of(lab.paths) == []


def test_a_lab_outlives_the_terminal_of_its_maker(paths: LabPaths) -> None:
    script = "up(name, 1, state=root); import os, signal; os.killpg(0, signal.SIGHUP)"
    done = subprocess.run(upping(paths, script), start_new_session=True)
    assert done.returncode == -signal.SIGHUP

    lab = Lab.find(paths.name, paths.root)
    assert lab is not None
    assert fetch(lab.host("lab-001"), "/health")[0] == "ok\n"
    lab.down()


def test_a_pid_that_was_used_again_is_not_the_owner() -> None:
    me = this_process()

    assert alive(me)
    assert not alive(Owner(me.pid, me.start - 1))
    assert started(2**22 + 1) is None


def test_a_lab_from_before_a_reboot_does_not_hinder_a_new_one(paths: LabPaths) -> None:
    Lab.up(paths.name, 2, state=paths.root)
    state = read_state(paths)
    assert state is not None
    write_state(paths, replace(state, boot_id="another"))

    assert Lab.find(paths.name, paths.root) is None
    assert len(Lab.up(paths.name, 1, state=paths.root).hosts) == 1


# Bad input


def test_without_root_it_says_so_and_does_nothing(paths: LabPaths) -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(Refused, match="needs root"):
            Lab.up(paths.name, 1, state=paths.root)
    finally:
        os.seteuid(0)
    assert left_of(paths) == []


def test_everything_that_is_missing_on_the_machine_is_named_with_its_package(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        requirements.check(str(tmp_path))

    assert set(requirements.PROGRAMS) <= set(refused.value.message.replace(",", "").rstrip(".").split())
    assert "iproute2 mount nginx openssh-client openssh-server procps sudo util-linux" in refused.value.remedy


@pytest.mark.parametrize(
    ("name", "count", "kinds", "words"),
    [
        ("Lab!", 1, {}, "can't be named 'Lab!'"),
        ("bad", 0, {}, "Ask for 1 to"),
        ("bad", 5000, {}, "Ask for 1 to"),
        ("bad", 1, {"lab-001": "purple"}, "no kind of host"),
        ("bad", 1, {"lab-002": "no-nginx"}, "has no host lab-002"),
    ],
)
def test_an_impossible_lab_is_refused_before_anything_is_made(
    tmp_path: Path, name: str, count: int, kinds: dict[str, str], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        Lab.up(name, count, kinds, tmp_path / "state")

    assert not (tmp_path / "state").exists()


def test_an_inventory_that_a_person_wrote_is_not_overwritten(tmp_path: Path) -> None:
    inventory = tmp_path / "lab.yaml"
    inventory.write_text("all: {}\n")

    with pytest.raises(Refused, match="did not write"):
        Lab.up("bad", 1, state=tmp_path / "state", inventory=inventory)

    assert inventory.read_text() == "all: {}\n"


def test_the_copy_of_the_inventory_goes_with_the_lab(paths: LabPaths, tmp_path: Path) -> None:
    inventory = tmp_path / "lab.yaml"
    lab = Lab.up(paths.name, 1, state=paths.root, inventory=inventory)

    assert inventory.read_text() == lab.inventory.read_text()
    lab.down()
    assert not inventory.exists()


def test_two_labs_never_share_a_subnet(make_lab: MakeLab, lab: Lab) -> None:
    other = make_lab(1)

    assert not IPv4Network(other.hosts[0].subnet).overlaps(IPv4Network(lab.hosts[0].subnet))


def test_a_host_that_can_not_come_up_takes_the_whole_lab_back_and_says_why(paths: LabPaths) -> None:
    script = (
        "from dataclasses import replace; from fleet.lab.kinds.all_kinds import KINDS\n"
        "KINDS['plain'] = replace(KINDS['plain'], start='echo no luck; exit 1')\n"
        "try: up(name, 2, state=root)\n"
        "except Exception as error: print(error)"
    )

    done = subprocess.run(upping(paths, "\n" + script), capture_output=True, text=True, check=True)

    assert "its first process ended. no luck" in done.stdout
    assert left_of(paths) == []
