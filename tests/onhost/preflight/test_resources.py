import os
from typing import Any

import pytest

from fleet.onhost.preflight.resources import (
    disks,
    memory,
    mount_of,
    processes,
    room_for_release,
    state_folder,
)
from fleet.onhost.system.control_groups import Group, memory_groups, pid_groups
from fleet.onhost.system.machine import Machine
from fleet.onhost.system.process import Process
from tests.support.onhost.recorded import PATH, RecordedMachine, a_look, a_master, a_request, a_subject

MOUNTS = """\
22 1 0:1 / / rw - overlay overlay rw
30 22 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
31 22 0:27 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids
32 22 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 22 0:29 / /mnt/with\\040space rw,noexec - tmpfs tmpfs rw
"""
V1 = "4:memory:/web/nginx\n8:pids:/web/nginx\n0::/\n"
V2 = "0::/system.slice/nginx.service\n"
FAMILY = (
    Process(812, 1, 900, "S", 1, "nginx: master process /usr/sbin/nginx"),
    Process(813, 812, 1000, "S", 1, "nginx: worker process"),
)
FOLDERS: dict[str, dict[str, Any]] = {
    "/usr/sbin": {"st_dev": 1.0},
    "/var/lib": {"st_dev": 2.0},
    "/run": {"st_dev": 3.0},
    "/proc/812/exe": {"st_size": 1 << 20},
}
NOEXEC, READ_ONLY = {"f_flag": os.ST_NOEXEC}, {"f_flag": os.ST_RDONLY}
PLAIN: dict[str, int] = {}


def a_host(**rooms: dict[str, int]) -> RecordedMachine:
    named = {
        "/usr/sbin": rooms.get("binary", PLAIN),
        "/var/lib": rooms.get("state", PLAIN),
        "/run": rooms.get("run", PLAIN),
    }
    return RecordedMachine(texts={"/proc/self/mountinfo": MOUNTS}, stats=FOLDERS, rooms=named, processes=FAMILY)


def words(machine: RecordedMachine) -> list[str]:
    return [one.reason for one in disks(a_subject(machine))]


@pytest.mark.parametrize(
    ("place", "room", "reason"),
    [
        ("binary", {"f_bavail": 100}, "disk_full"),
        ("state", {"f_bavail": 100}, "disk_full"),
        ("run", {"f_bavail": 1}, "disk_full"),
        ("run", {"f_favail": 3}, "no_inodes"),
        ("binary", NOEXEC, "path_noexec"),
        ("run", READ_ONLY, "read_only"),
    ],
)
def test_every_folder_that_is_written_to_is_judged(place: str, room: dict[str, int], reason: str) -> None:
    assert words(a_host(**{place: room})) == [reason]


def test_a_host_with_room_gives_no_finding() -> None:
    assert words(a_host()) == []


def test_a_file_system_that_counts_no_inodes_is_not_short_of_them() -> None:
    assert words(a_host(run={"f_files": 0, "f_favail": 0})) == []


def test_sizes_on_one_file_system_are_added_up() -> None:
    host = a_host(binary={"f_bavail": 800}, state={"f_bavail": 800})
    assert words(host) == []

    host.stats["/var/lib"] = {"st_dev": 1}

    (found,) = disks(a_subject(host))
    assert "5.0 MiB is needed" in found.message


def test_a_file_system_that_does_not_answer_is_reported() -> None:
    host = a_host()
    del host.rooms["/run"]

    assert words(host) == ["not_checked"]


def test_a_state_folder_that_is_not_there_yet_is_judged_by_the_one_above() -> None:
    host = a_host(state=NOEXEC)

    (found,) = state_folder(host, "/var/lib/fleet")

    assert found.reason == "state_noexec"
    assert "/var/lib " in found.message


@pytest.mark.parametrize(
    ("room", "reasons"), [({}, []), ({"f_bavail": 700}, ["disk_full"]), (READ_ONLY, ["read_only"]), (NOEXEC, [])]
)
def test_the_state_folder_must_take_the_release(room: dict[str, int], reasons: list[str]) -> None:
    assert [one.reason for one in room_for_release(a_host(state=room), "/var/lib/fleet", 1 << 20)] == reasons
    assert [one.reason for one in room_for_release(RecordedMachine(), "/x", 1)] == ["not_checked"]


def test_a_release_that_was_uploaded_needs_no_more_room_than_to_be_unpacked() -> None:
    assert room_for_release(a_host(state={"f_bavail": 700}), "/var/lib/fleet", 1 << 20, is_uploaded=True) == []


def test_the_mount_point_of_a_path_is_the_longest_that_fits() -> None:
    assert mount_of(a_host(), "/mnt/with space/x") == "/mnt/with space"
    assert mount_of(a_host(), "/mnt/without") == "/"


def a_limited(cgroups: str, **texts: str) -> RecordedMachine:
    files = {"/proc/self/mountinfo": MOUNTS, "/proc/812/cgroup": cgroups, "/proc/meminfo": "MemAvailable: 1000000 kB\n"}
    files["/proc/812/smaps_rollup"] = files["/proc/813/smaps_rollup"] = "Rss: 9000 kB\nPss:   4096 kB\n"
    files.update(
        {"/sys/fs/cgroup/" + path.replace("__", "/").replace("_DOT_", "."): text for path, text in texts.items()}
    )
    return RecordedMachine(texts=files, processes=FAMILY)


def test_memory_is_measured_by_the_real_use_of_the_family() -> None:
    host = a_limited("")
    assert memory(a_subject(host)) == []

    host.texts["/proc/meminfo"] = "MemAvailable:    9000 kB\n"

    (found,) = memory(a_subject(host))
    assert found.reason == "memory_short"
    assert "the host has 8.8 MiB free (MemAvailable in /proc/meminfo)" in found.message


def test_an_old_kernel_tells_only_what_is_resident() -> None:
    host = a_limited("")
    for pid in (812, 813):
        del host.texts[f"/proc/{pid}/smaps_rollup"]
        host.texts[f"/proc/{pid}/statm"] = "9000 500000 1 1 0 1 0"

    assert [one.reason for one in memory(a_subject(host))] == ["memory_short"]


V1_FILES = {
    "/sys/fs/cgroup/memory/web/nginx/memory.limit_in_bytes": "9223372036854771712\n",
    "/sys/fs/cgroup/memory/web/nginx/memory.usage_in_bytes": "5000\n",
    "/sys/fs/cgroup/memory/web/memory.limit_in_bytes": "10000\n",
    "/sys/fs/cgroup/memory/web/memory.usage_in_bytes": "8000\n",
    "/sys/fs/cgroup/memory/web/memory.stat": "cache 1\ntotal_inactive_file 3000\n",
    "/sys/fs/cgroup/pids/web/nginx/pids.max": "10\n",
    "/sys/fs/cgroup/pids/web/nginx/pids.current": "7\n",
}
V2_FILES = {
    "/sys/fs/cgroup/unified/system.slice/nginx.service/memory.max": "max\n",
    "/sys/fs/cgroup/unified/system.slice/nginx.service/memory.current": "5\n",
    "/sys/fs/cgroup/unified/system.slice/memory.max": "10000\n",
    "/sys/fs/cgroup/unified/system.slice/memory.current": "8000\n",
    "/sys/fs/cgroup/unified/system.slice/memory.stat": "inactive_file 3000\n",
    "/sys/fs/cgroup/unified/system.slice/nginx.service/pids.max": "10\n",
    "/sys/fs/cgroup/unified/system.slice/nginx.service/pids.current": "7\n",
}


@pytest.mark.parametrize(
    ("cgroups", "files", "top"), [(V1, V1_FILES, "memory/web"), (V2, V2_FILES, "unified/system.slice")]
)
def test_limits_of_both_kinds_of_control_groups_count_at_every_level(
    cgroups: str, files: dict[str, str], top: str
) -> None:
    host = a_limited(cgroups)
    host.texts.update(files)

    (group,) = memory_groups(host, 812)
    assert group._replace(file="") == Group(5000, 10000, "")
    assert group.file.startswith(f"/sys/fs/cgroup/{top}/")
    assert [(one.used, one.limit) for one in pid_groups(host, 812)] == [(7, 10)]
    assert [one.reason for one in memory(a_subject(host))] == ["memory_short"]
    (found,) = processes(a_subject(host))
    assert "may start 3 more, and a second generation of nginx needs 6" in found.message


def test_a_control_group_seen_from_inside_its_own_root_is_found() -> None:
    host = a_limited("0::/box/nginx\n")
    host.texts["/proc/self/mountinfo"] = "32 22 0:28 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    host.texts["/sys/fs/cgroup/nginx/pids.max"], host.texts["/sys/fs/cgroup/nginx/pids.current"] = "9", "1"

    assert pid_groups(host, 812) == [Group(1, 9, "/sys/fs/cgroup/nginx/pids.max")]


def test_the_limit_of_a_user_binds_a_master_that_is_not_root() -> None:
    host = a_limited("")
    host.texts["/proc/812/limits"] = (
        "Limit Soft Hard Units\nMax processes             4                    4       processes\n"
    )
    host.stats = {"/proc/812": {"st_uid": 33}, "/proc/813": {"st_uid": 33}}
    host.folders = {"/proc/812/task": ("812",), "/proc/813/task": ("813",)}

    assert [one.reason for one in processes(a_subject(host))] == ["pids_short"]

    host.stats = {"/proc/812": {"st_uid": 0}, "/proc/813": {"st_uid": 33}}

    assert processes(a_subject(host)) == []


def test_this_machine_has_room_for_this_test() -> None:
    machine, me = Machine(), os.getpid()
    look = a_look(path=PATH, pid_file="/run/nginx.pid")

    subject = a_subject(machine, a_master(pid=me), look, a_request(release_bytes=1))

    assert memory(subject) == []
    assert processes(subject) == []
