from fleet.onhost.system.mounts import NO_EXEC, NO_SUID, READ_ONLY, Mount, read_mounts

LISTED = """\
22 1 0:1 / / rw,relatime - overlay overlay rw,lowerdir=/a
40 33 8:2 /srv/x /mnt/a\\040b/c ro,nosuid,noexec,relatime shared:9 master:1 - ext4 /dev/sda2 rw
33 22 0:29 / /mnt/a\\040b rw - tmpfs tmpfs ro,size=4k
44 22 0:30 / /proc rw - proc
a line that is none
"""


def test_mounts_come_after_those_that_they_lie_in_and_with_their_names_as_they_are() -> None:
    found = read_mounts(LISTED)

    assert [one.point for one in found] == ["/", "/mnt/a b", "/mnt/a b/c"]
    assert found[2] == Mount(40, "8:2", "/srv/x", "/mnt/a b/c", READ_ONLY | NO_SUID | NO_EXEC, "ext4", ("rw",))


def test_a_file_system_that_is_read_only_makes_its_mount_so() -> None:
    assert [one.flags for one in read_mounts(LISTED)[:2]] == [0, READ_ONLY]
