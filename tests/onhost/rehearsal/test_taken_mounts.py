import pytest

from fleet.onhost.rehearsal.taken_mounts import lies_in, worth_copying
from fleet.onhost.system.mounts import read_mounts

LISTED = """\
22 1 0:1 / / rw - ext4 /dev/sda1 rw
23 22 0:2 / /proc rw - proc proc rw
24 23 0:3 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw
25 22 0:4 / /sys ro - sysfs sysfs rw
26 25 0:5 / /sys/fs/cgroup rw - tmpfs tmpfs rw
27 22 0:6 / /data rw - nfs4 server:/data rw
28 22 0:7 / /home rw - fuse.sshfs other:/home rw
29 22 0:8 / /var rw - xfs /dev/sdb rw
30 22 0:9 / /net rw - autofs map rw
"""


def test_file_systems_of_the_kernel_and_servers_that_nginx_does_not_use_are_left_out() -> None:
    taken, notes = worth_copying(read_mounts(LISTED), frozenset({"/", "/data"}))

    assert [one.point for one in taken] == ["/", "/sys", "/data", "/var"]
    assert notes == ["/home (fuse.sshfs) is left out: nginx has nothing open there"]


@pytest.mark.parametrize(
    ("path", "point", "lies"),
    [
        ("/var/log/a", "/var", True),
        ("/var/log/a", "/", False),
        ("/etc/a", "/", True),
        ("/variant/a", "/var", False),
        ("/var", "/var", False),
    ],
)
def test_a_path_lies_in_the_innermost_mount(path: str, point: str, lies: bool) -> None:
    assert lies_in(path, point, ["/", "/var"]) is lies
