"""What forbids the renames of an upgrade: recorded mounts, and real attributes of real files."""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.onhost.preflight.replaceable import renamed_files
from fleet.onhost.protocol import Finding
from fleet.onhost.system.files import APPEND_ONLY, FS_IOC_GETFLAGS, IMMUTABLE
from fleet.onhost.system.machine import Machine
from tests.support.onhost.recorded import PATH, PID_FILE, RecordedMachine, a_look, a_master, a_subject

FS_IOC_SETFLAGS = FS_IOC_GETFLAGS ^ 0xC0000003  # _IOW('f', 2, long), on processors where _IOR has bit 31
ROOT = "22 1 0:1 / / rw - overlay overlay rw\n"


def mount(point: str) -> str:
    return f"{ROOT}33 22 0:29 /srv/real {point} rw - ext4 /dev/vda rw\n"


def judged(host: Machine) -> list[Finding]:
    return renamed_files(a_subject(host))


@pytest.mark.parametrize("point", ["/usr", "/usr/sbin", "/run", "/usr/sbin/nginx-debug", "/usr/sbin/nginx.d"])
def test_a_mount_of_a_folder_or_of_another_file_forbids_nothing(point: str) -> None:
    assert judged(RecordedMachine(texts={"/proc/self/mountinfo": mount(point)})) == []
    assert judged(RecordedMachine()) == []


def test_a_binary_that_is_a_mount_point_is_refused_with_the_way_to_make_it_a_file() -> None:
    (found,) = judged(RecordedMachine(texts={"/proc/self/mountinfo": mount(PATH)}))

    assert found.reason == "not_replaceable"
    assert f"{PATH} can't be replaced, because it is a mount point of its own." in found.message
    assert f"`cp -p {PATH} {PATH}.tmp && umount -l {PATH} && mv {PATH}.tmp {PATH}`" in found.remedy


@pytest.mark.parametrize("process", ["self", "812"])
def test_a_pid_file_that_is_a_mount_point_for_fleet_or_for_nginx_is_refused(process: str) -> None:
    (found,) = judged(RecordedMachine(texts={f"/proc/{process}/mountinfo": mount(PID_FILE)}))

    assert found.reason == "pid_file_fixed"
    assert f"`umount -l {PID_FILE} && echo 812 > {PID_FILE}`" in found.remedy


@pytest.mark.parametrize(
    ("place", "flags", "word", "why", "cure"),
    [
        (PATH, IMMUTABLE, "not_replaceable", "it is immutable", "chattr -i /usr/sbin/nginx"),
        (PATH, APPEND_ONLY, "not_replaceable", "it is append-only", "chattr -a /usr/sbin/nginx"),
        ("/usr/sbin", IMMUTABLE, "not_replaceable", "its folder /usr/sbin is immutable", "chattr -i /usr/sbin"),
        ("/usr/sbin", APPEND_ONLY, "not_replaceable", "its folder /usr/sbin is append-only", "chattr -a /usr/sbin"),
        (PID_FILE, IMMUTABLE, "pid_file_fixed", "it is immutable", "chattr -i /run/nginx.pid"),
        ("/run", APPEND_ONLY, "pid_file_fixed", "its folder /run is append-only", "chattr -a /run"),
    ],
)
def test_an_attribute_that_forbids_a_rename_is_named_with_its_cure(
    place: str, flags: int, word: str, why: str, cure: str
) -> None:
    (found,) = judged(RecordedMachine(attributes={place: flags | 0x80000}))

    assert found.reason == word
    assert f"because {why}." in found.message
    assert f"`{cure}`" in found.remedy


def test_a_link_is_followed_to_the_file_that_is_renamed() -> None:
    host = RecordedMachine(links={PATH: "/opt/nginx/sbin/nginx"}, attributes={"/opt/nginx/sbin": IMMUTABLE})

    (found,) = judged(host)

    assert "`chattr -i /opt/nginx/sbin`" in found.remedy


def test_an_instance_whose_files_are_not_known_is_no_finding() -> None:
    look = a_look(a_master(), path=None, pid_file=None)

    assert renamed_files(a_subject(RecordedMachine(), look=look)) == []


@contextmanager
def attribute(path: Path, flag: int) -> Iterator[None]:
    """The file or folder has this attribute, as chattr(1) sets it."""
    descriptor = os.open(path, os.O_RDONLY)
    (before,) = struct.unpack("l", fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(struct.calcsize("l"))))
    fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("l", before | flag))
    try:
        yield
    finally:
        fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("l", before))
        os.close(descriptor)


@pytest.mark.parametrize("flag", [IMMUTABLE, APPEND_ONLY])
@pytest.mark.parametrize("place", ["nginx", ""])
def test_the_kernel_forbids_just_the_renames_that_are_refused(tmp_path: Path, place: str, flag: int) -> None:
    binary, fresh = tmp_path / "nginx", tmp_path / "fresh"
    binary.write_text("old")
    fresh.write_text("new")
    subject = a_subject(Machine(), look=a_look(a_master(), path=str(binary), pid_file=None))
    assert renamed_files(subject) == []

    with attribute(tmp_path / place, flag):
        assert [one.reason for one in renamed_files(subject)] == ["not_replaceable"]
        with pytest.raises(PermissionError):
            fresh.rename(binary)

    assert renamed_files(subject) == []
    fresh.rename(binary)


def test_a_file_that_is_not_there_has_no_attributes(tmp_path: Path) -> None:
    assert Machine().attributes(str(tmp_path / "none")) == 0
    assert Machine().attributes("/proc/self/stat") == 0
