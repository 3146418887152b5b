"""The package of nginx's file is asked for once, and again when the package manager's database has changed."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from fleet.onhost.packages.owner import Manager, Owner
from fleet.onhost.packages.package_database import stamps
from fleet.onhost.state.known_package import FILE, KnownPackage, package_view
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.system.machine import Machine, Ran
from fleet.onhost.views import PackageView

PATH = "/usr/sbin/nginx"


class Counted(Machine):
    """This machine, with a count of the programs that were run and the files that were read for their MD5."""

    def __init__(self) -> None:
        self.ran = 0
        self.hashed = 0
        self.database = "/var/lib/dpkg/status"

    def stat(self, path: str) -> os.stat_result | None:
        return super().stat(self.database if path == "/var/lib/dpkg/status" else path)

    def run(self, argv: tuple[str, ...], timeout_s: float, env: dict[str, str] | None = None, cwd: str = "/") -> Ran:
        self.ran += 1
        return super().run(argv, timeout_s, env, cwd)

    def md5(self, path: str) -> str | None:
        self.hashed += 1
        return super().md5(path)


@pytest.fixture
def machine() -> Counted:
    return Counted()


@pytest.fixture
def own(machine: Counted, tmp_path: Path) -> InstanceStore:
    kept = InstanceStore(machine, str(tmp_path), "0" * 16)
    kept.make()
    return kept


def sha256() -> str:
    return hashlib.sha256(Path(PATH).read_bytes()).hexdigest()


def test_an_unchanged_database_costs_no_program_and_an_unchanged_file_no_reading(
    machine: Counted, own: InstanceStore
) -> None:
    first = package_view(machine, own, PATH, sha256())
    ran, hashed = machine.ran, machine.hashed

    assert package_view(machine, own, PATH, sha256()) == first
    assert first is not None
    assert (first.name, first.is_its_file, first.on_hold) == ("nginx", True, False)
    assert (ran > 0, hashed) == (True, 1)
    assert (machine.ran, machine.hashed) == (ran, hashed)


def test_a_changed_database_is_asked_again(machine: Counted, own: InstanceStore, tmp_path: Path) -> None:
    package_view(machine, own, PATH, sha256())
    ran = machine.ran

    machine.database = str(shutil.copy(machine.database, tmp_path / "status"))
    package_view(machine, own, PATH, sha256())

    assert machine.ran == 2 * ran


def test_a_file_that_the_package_did_not_bring_is_not_its_file(machine: Counted, own: InstanceStore) -> None:
    """The hash is that of a file that was put at the path; its MD5 is compared once."""
    owner = Owner(Manager.DPKG, "nginx", "1.0-1", "0" * 32)
    now = stamps(machine)
    own.save(FILE, KnownPackage(PATH, now, owner))

    for _ in range(2):
        assert package_view(machine, own, PATH, "d" * 64) == PackageView("nginx", "1.0-1", False, False)
    assert (machine.ran, machine.hashed) == (0, 1)


def test_a_path_without_a_file_is_still_the_packages(machine: Counted, own: InstanceStore) -> None:
    view = package_view(machine, own, PATH, None)

    assert view is not None
    assert (view.name, view.is_its_file) == ("nginx", False)


def test_a_look_makes_no_folder_and_a_damaged_answer_is_asked_for_again(machine: Counted, tmp_path: Path) -> None:
    nowhere = InstanceStore(machine, str(tmp_path / "none"), "0" * 16)
    assert package_view(machine, nowhere, PATH, sha256()) is not None
    assert not (tmp_path / "none").exists()

    own = InstanceStore(machine, str(tmp_path), "1" * 16)
    own.make()
    Path(own.folder, FILE).write_text("{")
    view = package_view(machine, own, PATH, sha256())

    assert view is not None
    assert view.is_its_file
