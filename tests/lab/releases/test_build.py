"""The lab's releases on a real nginx: each bad one fails exactly where its name says."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.errors import ReleaseError
from fleet.lab.releases.build import DEFAULT_BASE, KINDS, MACHINE_CODE_KINDS, make_release
from tests.support.private_nginx import DEADLINE_S, PrivateNginx, wait_until

TESTED_OK = "test is successful"


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[PrivateNginx]:
    nginx = PrivateNginx(tmp_path / "nginx")
    try:
        yield nginx
    finally:
        nginx.end()


def a_release(tmp_path: Path, kind: str) -> Path:
    return make_release(kind, tmp_path / kind)


def version_of(release: Path) -> str:
    done = subprocess.run([release, "-v"], text=True, capture_output=True, timeout=DEADLINE_S, check=True)
    return done.stderr.strip()


def test_a_new_release_says_its_version_and_serves(nginx: PrivateNginx, tmp_path: Path) -> None:
    release = a_release(tmp_path, "new")
    nginx.install(release)
    nginx.start_well()

    assert version_of(release) == "nginx version: nginx/1.22.9"
    assert nginx.get().startswith(b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.9\r\n")


def test_only_the_version_of_a_new_release_differs_from_its_base(tmp_path: Path) -> None:
    old, new = DEFAULT_BASE.read_bytes(), a_release(tmp_path, "new").read_bytes()

    assert len(old) == len(new)
    changed = [offset for offset, (before, after) in enumerate(zip(old, new, strict=True)) if before != after]
    assert {old[offset] for offset in changed} == {ord("1")}
    assert {new[offset] for offset in changed} == {ord("9")}


def test_a_padded_release_has_the_size_asked_for_and_the_same_bytes_every_time(tmp_path: Path) -> None:
    first = make_release("new", tmp_path / "first", size_bytes=5_000_001)
    second = make_release("new", tmp_path / "second", size_bytes=5_000_001)

    assert first.stat().st_size == 5_000_001
    assert first.read_bytes() == second.read_bytes()
    assert version_of(first) == "nginx version: nginx/1.22.9"


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_is_executable_unless_its_kind_says_otherwise(tmp_path: Path, kind: str) -> None:
    mode = a_release(tmp_path, kind).stat().st_mode & 0o777

    assert mode == (0o644 if kind == "not-executable" else 0o755)
    assert [path.name for path in tmp_path.iterdir()] == [kind]


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"truncated", "wrong-arch", "not-executable", "missing-lib"}))
def test_a_release_that_runs_carries_the_new_version(tmp_path: Path, kind: str) -> None:
    assert version_of(a_release(tmp_path, kind)) == "nginx version: nginx/1.22.9"


def test_a_truncated_release_dies_before_it_can_say_a_word(nginx: PrivateNginx, tmp_path: Path) -> None:
    nginx.install(a_release(tmp_path, "truncated"))

    assert nginx.run("-v").returncode in (-signal.SIGSEGV, -signal.SIGBUS)


@pytest.mark.parametrize(
    ("kind", "error"), [("wrong-arch", "Exec format error"), ("not-executable", "Permission denied")]
)
def test_a_release_that_the_kernel_refuses(nginx: PrivateNginx, tmp_path: Path, kind: str, error: str) -> None:
    nginx.install(a_release(tmp_path, kind))

    with pytest.raises(OSError, match=error):
        nginx.run("-v")


def test_a_release_that_the_loader_refuses(nginx: PrivateNginx, tmp_path: Path) -> None:
    nginx.install(a_release(tmp_path, "missing-lib"))
    done = nginx.run("-v")

    assert done.returncode == 127
    assert "error while loading shared libraries: lib-" in done.stderr


def test_a_release_that_refuses_the_configuration(nginx: PrivateNginx, tmp_path: Path) -> None:
    nginx.install(a_release(tmp_path, "bad-config"))
    done = nginx.run("-t")

    assert done.returncode == 1
    assert 'unknown directive "worker_processes"' in done.stderr


@pytest.mark.parametrize("kind", sorted({*MACHINE_CODE_KINDS, "errors", "new"}))
def test_a_release_that_fails_only_when_it_runs_passes_its_configuration_test(
    nginx: PrivateNginx, tmp_path: Path, kind: str
) -> None:
    nginx.install(a_release(tmp_path, kind))

    assert TESTED_OK in nginx.run("-t").stderr


def test_workers_crash_at_their_start_and_the_master_does_not(nginx: PrivateNginx, tmp_path: Path) -> None:
    nginx.install(a_release(tmp_path, "crash-workers"))
    nginx.start()
    wait_until(lambda: nginx.logged(r"worker process \d+ exited on signal 4"), "a worker that crashed")

    assert nginx.master() in nginx.processes()


def test_workers_hang_and_the_master_does_not(nginx: PrivateNginx, tmp_path: Path) -> None:
    nginx.install(a_release(tmp_path, "hang-workers"))
    nginx.start_well()

    with pytest.raises(TimeoutError):
        nginx.get(within_s=0.5)
    assert len(nginx.workers(nginx.master())) == 2
    os.kill(nginx.master(), signal.SIGTERM)
    wait_until(lambda: not nginx.processes(), "the end of all, by KILL at last")
    assert nginx.logged("exited on signal 9")


def test_workers_crash_when_they_are_asked(nginx: PrivateNginx, tmp_path: Path) -> None:
    nginx.install(a_release(tmp_path, "crash-on-request"))
    nginx.start_well()
    asked = nginx.workers(nginx.master())

    assert answer_or_nothing(nginx) == b""
    wait_until(lambda: nginx.logged("exited on signal 4"), "a worker that crashed")
    assert asked != nginx.workers(nginx.master())


def answer_or_nothing(nginx: PrivateNginx) -> bytes:
    try:
        return nginx.get()
    except ConnectionError:
        return b""


def test_the_master_hangs_with_its_pid_file_and_without_workers(nginx: PrivateNginx, tmp_path: Path) -> None:
    nginx.install(a_release(tmp_path, "hung-master"))
    nginx.start()

    os.kill(nginx.master(), signal.SIGTERM)
    with pytest.raises(TimeoutError):
        nginx.get(within_s=0.5)
    assert nginx.processes() == [nginx.master()]


def test_requests_that_were_fine_get_a_500(nginx: PrivateNginx, tmp_path: Path) -> None:
    nginx.install(a_release(tmp_path, "errors"))
    nginx.start_well()

    assert nginx.get("/health").startswith(b"HTTP/1.1 500 ")
    assert nginx.get("/trickle.bin").startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("kind", sorted(MACHINE_CODE_KINDS))
def test_machine_code_for_another_processor_is_refused_with_the_kinds_that_go(tmp_path: Path, kind: str) -> None:
    foreign = a_release(tmp_path, "wrong-arch")

    with pytest.raises(ReleaseError, match=r"x86_64 only; .* is for aarch64\. Kinds that can be made here: new, trunc"):
        make_release(kind, tmp_path / "out", base=foreign)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - MACHINE_CODE_KINDS))
def test_the_other_kinds_can_be_made_from_another_processor_s_nginx(tmp_path: Path, kind: str) -> None:
    foreign = a_release(tmp_path, "wrong-arch")

    made = make_release(kind, tmp_path / "out", version="1.22.8", base=foreign)

    assert machine_of(made) == (machine_of(DEFAULT_BASE) if kind == "wrong-arch" else machine_of(foreign))
    assert made.read_bytes() != foreign.read_bytes()


def machine_of(binary: Path) -> int:
    """The processor that an ELF file is for: the header's `e_machine`."""
    return int.from_bytes(binary.read_bytes()[18:20], "little")


def test_a_function_that_is_not_exported_is_named(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.write_bytes(DEFAULT_BASE.read_bytes().replace(b"ngx_http_process_request\0", b"ngx_http_process_beguest\0"))

    with pytest.raises(ReleaseError, match="does not export the function ngx_http_process_request"):
        make_release("crash-on-request", tmp_path / "out", base=base)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("better", {}, "no kind of release called 'better'. Choose one of: new, "),
        ("new", {"version": "1.22.10"}, "'1.22.10' can't replace 1.22.1 .* 6 characters"),
        ("new", {"version": "latest"}, "'latest' can't replace"),
        ("new", {"version": "1.22.1"}, "has the version 1.22.1 already"),
        ("new", {"size_bytes": 1000}, r"more than the requested size \(1000\)"),
        ("truncated", {"size_bytes": 5_000_000}, "can't be padded"),
        ("new", {"base": Path("/nowhere/nginx")}, "/nowhere/nginx can't be read: No such file"),
        ("new", {"base": Path("/etc/passwd")}, "/etc/passwd is not an ELF executable"),
        ("new", {"base": Path("/bin/true")}, "/bin/true is not nginx"),
    ],
)
def test_a_release_that_can_t_be_made_is_refused_and_nothing_is_written(
    tmp_path: Path, kind: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ReleaseError, match=message):
        make_release(kind, tmp_path / "out", **options)  # type: ignore[arg-type]  # options of several types by name
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="can't be written: No such file"):
        make_release("new", tmp_path / "none" / "nginx")
