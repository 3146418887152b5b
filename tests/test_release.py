"""What a file must be to be a release. The valid ones are this machine's own nginx and Python."""

import hashlib
import os
import shutil
import struct
import sys
from pathlib import Path

import pytest

from fleet.errors import ReleaseError
from fleet.release import KeptRelease, Release, find_release, is_sha_prefix, read_release

NGINX = Path("/usr/sbin/nginx")


def an_elf(
    path: Path, *, kind: int = 2, machine: int = 62, entry: int = 0x401000, segments: int = 1, text: bytes = b""
) -> Path:
    """The smallest file that is an ELF executable: a header, program headers, and some text."""
    headers = 64 + 56 * segments
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, entry, 64, 0, 0, 64, 56, segments, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, headers + len(text), headers + len(text), 4096)
    path.write_bytes(header + segment * segments + text)
    path.chmod(0o755)
    return path


def test_debians_nginx_is_a_release(tmp_path: Path) -> None:
    copy = Path(shutil.copy(NGINX, tmp_path / "nginx"))

    release = read_release(copy)

    assert release.path == str(copy)
    assert release.sha256 == hashlib.sha256(NGINX.read_bytes()).hexdigest()
    assert release.size_bytes == NGINX.stat().st_size
    assert release.machine == os.uname().machine
    assert release.product == "nginx"
    assert release.version is not None
    assert release.version.startswith("1.")
    assert release.interpreter is not None
    assert release.interpreter.startswith("/lib")


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    an_elf(tmp_path / "nginx")
    monkeypatch.chdir(tmp_path)

    assert read_release(Path("nginx")).path == str(tmp_path / "nginx")


def test_a_file_without_the_x_bit_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = an_elf(tmp_path / "nginx")
    path.chmod(0o644)

    with pytest.raises(ReleaseError, match=r"not executable \(mode 0644\).* chmod \+x"):
        read_release(path)


def test_an_executable_that_names_no_version_has_none(tmp_path: Path) -> None:
    release = read_release(an_elf(tmp_path / "nginx"))

    assert (release.version, release.product, release.interpreter) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "product", "version"),
    [
        (b"nginx version: nginx/1.26.3\0", "nginx", "1.26.3"),
        (b"Server: nginx/1.26.3\r\n", "nginx", "1.26.3"),
        (b"nginx version: openresty/1.25.3.1\0", "openresty", "1.25.3.1"),
        (b"nginx/1.27.1\0Angie version: Angie/1.7.0\0", "angie", "1.7.0"),
        (b"nginx/1.24.0\0Tengine version: Tengine/3.1.0\0", "tengine", "3.1.0"),
        (b"freenginx version: freenginx/1.27.4\0", "freenginx", "1.27.4"),
    ],
)
def test_the_version_is_the_one_that_the_binary_prints(text: bytes, product: str, version: str, tmp_path: Path) -> None:
    release = read_release(an_elf(tmp_path / "nginx", text=text))

    assert (release.product, release.version) == (product, version)


@pytest.mark.parametrize(
    ("code", "name"), [(62, "x86_64"), (183, "aarch64"), (3, "i686"), (243, "riscv64"), (22, "s390x"), (21, "ppc64le")]
)
def test_the_machine_is_named_as_uname_names_it(code: int, name: str, tmp_path: Path) -> None:
    assert read_release(an_elf(tmp_path / "nginx", machine=code)).machine == name


def test_an_unknown_machine_is_named_by_its_number(tmp_path: Path) -> None:
    assert read_release(an_elf(tmp_path / "nginx", machine=64999)).machine == "elf-64999"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"#!/bin/sh\nexec nginx\n", "this is a script"),
        (b"\x1f\x8b\x08 a tarball", "not an ELF file"),
        (b"\x7fELF", "the ELF headers are damaged or truncated"),
        (b"\x7fELF\x02\x01\x01" + bytes(20), "the ELF headers are damaged or truncated"),
        (b"\x7fELF\x09\x01\x01" + bytes(200), "the ELF headers are damaged or truncated"),
    ],
)
def test_a_file_that_is_not_elf_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "nginx"
    path.write_bytes(content)

    with pytest.raises(ReleaseError, match=message) as refused:
        read_release(path)

    assert str(refused.value).startswith(f"{path}: ")
    assert refused.value.remedy.endswith(".")
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("kind", "entry", "message"),
    [(1, 0x1000, "an object file"), (4, 0, "a core dump"), (3, 0, "a library or module"), (77, 1, "not an executable")],
)
def test_an_elf_file_that_is_not_an_executable_is_refused(kind: int, entry: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=message):
        read_release(an_elf(tmp_path / "x.so", kind=kind, entry=entry))


@pytest.mark.parametrize("kept_percent", [0.01, 1, 50, 99, 99.99])
def test_a_truncated_nginx_is_refused_wherever_it_was_cut(kept_percent: float, tmp_path: Path) -> None:
    data = NGINX.read_bytes()
    path = tmp_path / "nginx"
    path.write_bytes(data[: int(kept_percent * len(data) / 100)])

    with pytest.raises(ReleaseError, match="truncated"):
        read_release(path)


def test_a_damaged_header_is_refused_and_never_a_crash(tmp_path: Path) -> None:
    """Each byte of the headers in turn is set to 0xff: a release or a refusal, nothing else."""
    data = an_elf(tmp_path / "whole", segments=2).read_bytes()
    path = an_elf(tmp_path / "nginx")
    outcomes: set[type] = set()
    for place in range(len(data)):
        path.write_bytes(data[:place] + b"\xff" + data[place + 1 :])
        try:
            outcomes.add(type(read_release(path)))
        except ReleaseError:
            outcomes.add(ReleaseError)

    assert outcomes == {Release, ReleaseError}


def test_a_missing_file_names_both_ways_to_say_a_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"no such file\. Name the path .* or 8 or more digits"):
        read_release(tmp_path / "nginx")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="this is a directory; fleet does not support releases with modules"):
        read_release(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(ReleaseError, match="not a regular file"):
        read_release(tmp_path / "pipe")


def test_a_file_that_cannot_be_reached_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(ReleaseError, match="can't be read: Not a directory"):
        read_release(tmp_path / "file" / "nginx")
    with pytest.raises(ReleaseError, match="can't be read: Too many levels of symbolic links"):
        read_release(tmp_path / "loop")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("abcdef12", True),
        ("ABCDEF12", True),
        ("a" * 64, True),
        ("abcdef1", False),
        ("a" * 65, False),
        ("nginx-12", False),
    ],
)
def test_a_sha_prefix_has_8_to_64_digits(text: str, is_one: bool) -> None:
    assert is_sha_prefix(text) is is_one


def test_digits_without_such_a_file_name_a_kept_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert find_release("ABCDEF12") == KeptRelease("abcdef12")


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    an_elf(tmp_path / "abcdef12")

    found = find_release("abcdef12")

    assert isinstance(found, Release)


def test_this_python_is_an_executable_of_this_machine() -> None:
    assert read_release(Path(os.path.realpath(sys.executable))).machine == os.uname().machine
