"""What the machine promises of files: nothing is lost, no link is followed, owner and mode stay."""

import ctypes
import gzip
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from fleet.onhost.system.files import TEMPORARY
from fleet.onhost.system.machine import Machine


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    taken = tmp_path / "record.json"
    (taken / "in the way").mkdir(parents=True)

    with pytest.raises(OSError, match="record.json"):
        Machine().write(str(taken), "new")

    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
    assert (taken / "in the way").is_dir()


def test_a_write_follows_no_link_that_another_user_has_put_there(tmp_path: Path) -> None:
    victim, pid_file = tmp_path / "shadow", tmp_path / "nginx.pid"
    victim.write_text("secret")
    Path(f"{pid_file}{TEMPORARY}{os.getpid()}").symlink_to(victim)
    pid_file.symlink_to(victim)

    Machine().write(str(pid_file), "812\n", mode=0o644)

    assert victim.read_text() == "secret"
    assert not pid_file.is_symlink()
    assert pid_file.read_text() == "812\n"
    assert pid_file.stat().st_mode & 0o7777 == 0o644


def test_a_copy_has_the_owner_and_the_mode_of_the_file_that_it_replaces(tmp_path: Path) -> None:
    release, old, fresh = tmp_path / "release", tmp_path / "old", tmp_path / "fresh"
    release.write_text("new bytes")
    old.write_text("old bytes")
    os.chown(old, 65534, 65534)
    old.chmod(0o4750)

    Machine().copy(str(release), str(fresh), like=str(old))

    seen = fresh.stat()
    assert fresh.read_text() == "new bytes"
    assert (seen.st_uid, seen.st_gid, seen.st_mode & 0o7777) == (65534, 65534, 0o4750)


def test_a_copy_writes_over_no_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)

    with pytest.raises(FileExistsError):
        Machine().copy(str(tmp_path / "a"), str(tmp_path / "b"), like=str(tmp_path / "a"))

    assert (tmp_path / "b").read_text() == "b"


@pytest.mark.parametrize("most_bytes", [999, 0])
def test_a_file_that_unpacks_to_more_than_announced_is_refused(tmp_path: Path, most_bytes: int) -> None:
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(b"x" * 1000))

    with pytest.raises(ValueError, match=f"more than {most_bytes} bytes"):
        Machine().unpack(str(packed), str(tmp_path / "out"), most_bytes)


def test_a_file_that_can_t_be_read_gives_nothing(tmp_path: Path) -> None:
    machine, missing = Machine(), str(tmp_path / "missing" / "file")

    assert (machine.read(missing), machine.sha256(missing), machine.stat(missing)) == (None, None, None)
    assert (machine.names(missing), machine.room(missing), machine.locked_by(missing)) == ([], None, None)
    machine.unlink(missing)


def test_the_link_of_a_process_that_ends_just_then_is_given_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: str) -> str:
        raise FileNotFoundError(2, "No such file or directory", path)

    monkeypatch.setattr(os, "readlink", gone)

    assert Machine().real_path("/proc/self/cwd") == "/proc/self/cwd"


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """A program that sleeps, and another file beside it."""
    program, other = tmp_path / "program", tmp_path / ".other"
    shutil.copy("/bin/sleep", program)
    other.write_text("other")
    return program, other


def test_an_exchange_leaves_a_running_file_a_name(two: tuple[Path, Path]) -> None:
    program, other = two
    inode = program.stat().st_ino
    with subprocess.Popen([str(program), "60"]) as process:
        try:
            machine = Machine()
            assert machine.exchange(str(other), str(program))

            assert (program.read_text(), other.stat().st_ino) == ("other", inode)
            assert machine.image_path(process.pid) == str(other)
            assert not machine.image_is_deleted(process.pid)
            machine.rename(str(other), str(program))
            assert os.readlink(f"/proc/{process.pid}/exe") == str(program)
            machine.rename(str(shutil.copy("/bin/sleep", other)), str(program))
            assert machine.image_is_deleted(process.pid)
        finally:
            process.kill()


def test_a_c_library_without_renameat2_is_gone_around(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """As of musl, and of glibc before 2.28."""
    real = ctypes.CDLL(None, use_errno=True)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(syscall=real.syscall))
    program, other = two

    assert Machine().exchange(str(other), str(program))

    assert program.read_text() == "other"
    with pytest.raises(FileNotFoundError, match="missing"):
        Machine().exchange(str(other.with_name("missing")), str(program))


def test_an_exchange_that_the_kernel_can_t_do_is_none(tmp_path: Path) -> None:
    """EINVAL: as of NFS; here of a folder with one in it."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)

    assert not Machine().exchange(str(inner), str(inner.parent))

    assert inner.is_dir()


def test_an_exchange_that_fails_says_why(two: tuple[Path, Path]) -> None:
    program, other = two
    other.unlink()

    with pytest.raises(FileNotFoundError, match="other"):
        Machine().exchange(str(other), str(program))

    assert program.exists()


def test_what_need_not_last_is_written_whole_too(tmp_path: Path) -> None:
    machine, path = Machine(), tmp_path / "lease.json"

    machine.write(str(path), "one", lasting=False)
    machine.write(str(path), "two", lasting=False)
    assert path.read_text() == "two"
    assert [one.name for one in tmp_path.iterdir()] == ["lease.json"]

    machine.drop(str(path))
    machine.drop(str(path))
    assert not path.exists()
