"""Bundles come from the cache only if this user has made them from these very files."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.ssh.delivery import bundle
from fleet.ssh.delivery.bundle import BundleStore, kept_or_built
from fleet.ssh.delivery.bundle_cache import KEPT, BundleCache, identity
from fleet.ssh.delivery.psutil_wheels import WheelCache

MADE = {"generic": b"PK one", "x86_64-glibc": b"PK two\n\0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "bundles"


@pytest.fixture
def stored(folder: Path) -> Path:
    """The file of the name `one`."""
    BundleCache(folder).store("one", MADE)
    return folder / "one.bundles"


def test_what_was_stored_is_loaded_under_its_name(folder: Path, stored: Path) -> None:
    assert BundleCache(folder).load("one") == MADE
    assert BundleCache(folder).load("two") is None
    assert (stored.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [path.name for path in folder.iterdir()] == ["one.bundles"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def turned(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b"PK two", b"PK 2wo"))


def linked(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to("../elsewhere")


def made_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    "harm",
    [
        cut,
        turned,
        linked,
        made_a_pipe,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b'{"generic": 1}\n'),
        lambda path: path.write_bytes(b"[[1, 2]]\nab"),
        lambda path: path.chmod(0o620),
        lambda path: path.chmod(0o602),
        lambda path: os.chown(path, 12345, -1),
        lambda path: path.parent.chmod(0o770),
        lambda path: os.chown(path.parent, 12345, -1),
    ],
)
def test_a_damaged_or_foreign_file_is_not_used(folder: Path, stored: Path, harm: Callable[[Path], object]) -> None:
    harm(stored)

    assert BundleCache(folder).load("one") is None


def test_nothing_is_stored_in_a_folder_of_another_user(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.chown(folder, 12345, -1)

    BundleCache(folder).store("one", MADE)

    assert list(folder.iterdir()) == []


def test_a_folder_that_can_t_be_made_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = BundleCache(tmp_path / "file" / "bundles")

    cache.store("one", MADE)

    assert cache.load("one") is None


def test_only_the_newest_files_are_kept(folder: Path) -> None:
    for number in range(KEPT + 2):
        BundleCache(folder).store(str(number), MADE)
        os.utime(folder / f"{number}.bundles", (number, number))
    BundleCache(folder).store("last", MADE)

    assert len(list(folder.iterdir())) == KEPT
    assert BundleCache(folder).load("last") == MADE


def test_another_file_another_time_and_another_word_give_another_name(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a")
    shutil.copy2(one, two)
    names = {identity([one], "1"), identity([two], "1"), identity([one, two], "1"), identity([one], "2")}
    os.utime(one, ns=(1, 1))
    names.add(identity([one], "1"))

    assert len(names) == 5
    assert identity([one, two]) == identity([two, one])


def test_the_bundles_from_the_cache_are_those_that_were_built(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = WheelCache(tmp_path / "wheels")
    built = kept_or_built(BundleCache(folder), wheels)
    monkeypatch.setattr(bundle, "_built", lambda wheels: {})

    kept = kept_or_built(BundleCache(folder), wheels)

    assert kept == built
    assert BundleStore(kept, wheels).fetch(bundle.own_tag() or "") == built[bundle.own_tag() or ""]
    next(folder.iterdir()).unlink()
    assert kept_or_built(BundleCache(folder), wheels) == {}
