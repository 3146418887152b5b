"""The names of the binaries: what runs keeps one, whatever comes between, so that /proc/PID/exe never reads "(deleted)"."""

import errno
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.lab.releases.build import make_release
from fleet.onhost.protocol import Ask, Outcome, Phase
from fleet.onhost.system.machine import Machine
from tests.onhost.test_failure_modes import Heard, comes_back, held, upgraded
from tests.onhost.visit.test_dispatch import is_as_before
from tests.support.private_nginx import PrivateNginx, wait_until

KEPT = ".nginx.fleet-kept"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


@pytest.fixture
def host(tmp_path: Path, release: Path) -> Iterator[Heard]:
    found = Heard(PrivateNginx(tmp_path).start_well(), "")
    found.store(release)
    yield found
    found.nginx.end()


def runs(host: Heard, pid: int) -> str:
    """What /proc/PID/exe reads, within the binary's folder."""
    return os.path.relpath(os.readlink(f"/proc/{pid}/exe"), host.nginx.binary.parent)


def replaced(host: Heard) -> bytes:
    """Another file with the old bytes is put at the path, as a configuration management does."""
    kept = host.nginx.binary.with_name(KEPT)
    host.nginx.install(kept)
    return kept.read_bytes()


class Unable(Machine):
    """A file system that can't exchange names."""

    def exchange(self, one: str, other: str) -> bool:
        return False


class Forbidden(Machine):
    """A file system that lets nobody exchange names."""

    def exchange(self, one: str, other: str) -> bool:
        raise PermissionError(errno.EPERM, "Operation not permitted", one, None, other)


class Killed(BaseException):
    """The step script is killed: nothing of it runs any more."""


class DiesAt(Machine):
    """Killed just before the exchange, or just after it."""

    def __init__(self, when: str) -> None:
        self.when = when

    def exchange(self, one: str, other: str) -> bool:
        if self.when == "after":
            super().exchange(one, other)
        raise Killed


def test_held_and_taken_back_the_old_master_runs_a_file_that_has_a_name(host: Heard) -> None:
    file = host.nginx.binary.stat()
    before, old = host.sha256(), held(host)
    new = host.nginx.master()

    assert (runs(host, old), runs(host, new)) == (KEPT, "nginx")
    report = comes_back(host, old)

    assert runs(host, old) == "nginx"
    assert host.nginx.binary.stat().st_ino == file.st_ino
    assert "image_deleted" not in host.words
    is_as_before(host, report, before, old)


def test_committed_and_taken_back_after_that_both_run_a_file_that_has_a_name(host: Heard) -> None:
    held(host)
    assert host.visit(Ask.COMMIT)[0].outcome is Outcome.DONE
    assert (runs(host, host.nginx.master()), host.stray()) == ("nginx", [])

    end, report = host.visit(Ask.ROLLBACK)

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.OLD), end
    assert (runs(host, host.nginx.master()), host.stray()) == ("nginx", [])
    assert "image_deleted" not in host.words


def test_a_file_system_that_can_t_exchange_is_said_after_the_rollback(host: Heard) -> None:
    file = host.nginx.binary.stat()
    host.machine = Unable()
    before, old = host.sha256(), held(host)
    assert runs(host, old) == "nginx (deleted)"

    report = comes_back(host, old)

    assert runs(host, old) == "nginx (deleted)"
    assert "image_deleted" in host.words
    assert "`echo '$nrconf{override_rc}{qr(^nginx)} = 0;' > /etc/needrestart/conf.d/" in host.remedies["image_deleted"]
    assert host.nginx.binary.stat().st_ino == file.st_ino
    is_as_before(host, report, before, old)


def test_an_exchange_that_is_forbidden_changes_nothing(host: Heard) -> None:
    before, old = host.sha256(), host.nginx.master()
    host.machine = Forbidden()

    end, report = upgraded(host)

    assert (end.outcome, end.reason) == (Outcome.REFUSED, "swap_failed"), end
    assert runs(host, old) == "nginx"
    is_as_before(host, report, before, old)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_script_killed_at_the_exchange_leaves_a_way_back(host: Heard, when: str) -> None:
    before, old = host.sha256(), host.nginx.master()
    host.machine = DiesAt(when)
    with pytest.raises(Killed):
        upgraded(host)
    assert runs(host, old) == (KEPT if when == "after" else "nginx")
    host.machine = Machine()

    report = comes_back(host, old)

    assert runs(host, old) == "nginx"
    is_as_before(host, report, before, old)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_script_killed_at_the_exchange_leaves_a_way_on(host: Heard, when: str) -> None:
    old = host.nginx.master()
    host.machine = DiesAt(when)
    with pytest.raises(Killed):
        upgraded(host)
    host.machine = Machine()

    assert held(host) == old

    assert (runs(host, old), runs(host, host.nginx.master())) == (KEPT, "nginx")
    assert host.stray() == [KEPT]


def test_an_old_binary_that_someone_put_back_while_held_gives_way_to_the_very_file_that_runs(host: Heard) -> None:
    before, old = host.sha256(), held(host)
    replaced(host)

    report = comes_back(host, old)

    assert runs(host, old) == "nginx"
    is_as_before(host, report, before, old)


def test_a_swap_removes_no_kept_file_that_runs(host: Heard) -> None:
    """Someone put the old binary back and ended the new master; the rollout is tried again."""
    old = held(host)
    replaced(host)
    os.kill(host.nginx.master(), signal.SIGKILL)
    wait_until(lambda: host.visit(Ask.LOOK)[1].phase is Phase.OLD, "OLD")

    host.epoch = 2
    end, report = host.visit(Ask.UPGRADE, rollout="r2")

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.TRIAL), end
    assert runs(host, old) == KEPT


def test_other_hard_links_owner_and_mode_of_the_old_binary_stay(host: Heard) -> None:
    other = host.nginx.folder / "other"
    os.link(host.nginx.binary, other)
    os.chown(other, 65534, 65534)
    other.chmod(0o2711)
    file = host.nginx.binary.stat()

    old = held(host)
    new = host.nginx.binary.stat()
    comes_back(host, old)

    after = host.nginx.binary.stat()
    assert (new.st_uid, new.st_gid, new.st_mode, new.st_nlink) == (file.st_uid, file.st_gid, file.st_mode, 1)
    assert (after.st_ino, after.st_uid, after.st_gid, after.st_mode) == (
        file.st_ino,
        file.st_uid,
        file.st_gid,
        file.st_mode,
    )
    assert after.st_nlink == 2


def test_a_symbolic_link_to_the_binary_stays(host: Heard) -> None:
    real = shutil.move(host.nginx.binary, host.nginx.folder / "nginx-1.22")
    host.nginx.binary.symlink_to(real)

    old = held(host)
    assert os.readlink(f"/proc/{old}/exe") == str(host.nginx.folder / ".nginx-1.22.fleet-kept")
    comes_back(host, old)

    assert os.readlink(f"/proc/{old}/exe") == str(real)
    assert host.nginx.binary.readlink() == real
