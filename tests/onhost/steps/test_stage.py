"""What staging makes of what was brought, and what else it does to the store."""

import gzip
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet.onhost.bootstrap.safe_folders import GIVEN_UP_S
from fleet.onhost.state.store import Store
from fleet.onhost.steps.stage import ReleaseMissing, WrongBytes, stage
from fleet.onhost.system.machine import Machine

RELEASE = os.urandom(3 << 20) + b"\0" * (2 << 20)
SHA256 = hashlib.sha256(RELEASE).hexdigest()


class Place:
    """A store on this machine, and the folder of the release in it."""

    def __init__(self, root: Path) -> None:
        self.store = Store(Machine(), str(root))
        self.folder = root / "releases" / SHA256
        self.folder.mkdir(parents=True)

    def bring(self, packed: bytes) -> None:
        (self.folder / "nginx.part.gz").write_bytes(packed)

    def stage(self, most_bytes: int | None = len(RELEASE)) -> str:
        return stage(Machine(), self.store, SHA256, most_bytes)

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_compressed_upload_becomes_the_release_and_leaves_no_other_file(place: Place) -> None:
    place.bring(gzip.compress(RELEASE))

    final = Path(place.stage())

    assert final.read_bytes() == RELEASE
    assert final.stat().st_mode & 0o777 == 0o755
    assert place.files == ["nginx"]


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (gzip.compress(b"another release"), "expected"),
        (gzip.compress(RELEASE)[:-1], "cut off"),
        (gzip.compress(RELEASE) + b"more", "something follows"),
        (b"", "expected"),
        (RELEASE + b"\0", "more than"),
        (RELEASE[:-1], "expected"),
        (gzip.compress(RELEASE + b"\0"), "more than"),
    ],
    ids=["another", "cut off", "longer", "empty", "not packed and longer", "not packed and cut off", "swollen"],
)
def test_other_bytes_are_never_under_the_name_of_a_release(place: Place, packed: bytes, said: str) -> None:
    place.bring(packed)

    with pytest.raises(WrongBytes, match=said):
        place.stage()

    assert place.files == []


def test_bytes_that_were_not_compressed_become_the_release(place: Place) -> None:
    place.bring(RELEASE)

    assert Path(place.stage()).read_bytes() == RELEASE


def test_an_endless_file_fills_no_disk(place: Place) -> None:
    place.bring(gzip.compress(bytes(64 << 20)))

    with pytest.raises(WrongBytes, match="more than 1048576 bytes"):
        place.stage(1 << 20)

    assert place.files == []


def test_visits_that_stage_at_once_find_the_release(tmp_path: Path) -> None:
    """Two instances of a host share the state folder: what one of them took is there for the other."""
    place = Place(tmp_path)
    place.bring(gzip.compress(RELEASE))
    final = Path(place.store.release(SHA256))

    class Slow(Machine):
        """It looks while nothing is there, and reads when the other visit has had its turn."""

        def unpack(self, source: str, target: str, most_bytes: int | None = None) -> str:
            place.stage()
            return super().unpack(source, target, most_bytes)

    with ThreadPoolExecutor() as threads:
        assert threads.submit(stage, Slow(), place.store, SHA256).result() == str(final)
    assert final.read_bytes() == RELEASE
    assert place.files == ["nginx"]


def test_an_upload_that_was_given_up_is_forgotten_and_one_under_way_is_not(tmp_path: Path) -> None:
    given_up, under_way = (tmp_path / "releases" / name / "nginx.part.gz.0a1b2c3d" for name in ("a" * 64, "b" * 64))
    kept = given_up.with_name("nginx")
    bundle = tmp_path / "bundles" / "d" / "fleet.pyz.part.1"
    for path in (given_up, under_way, kept, bundle):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    long_ago = time.time() - GIVEN_UP_S - 60
    for path in (given_up, kept, bundle):
        os.utime(path, (long_ago, long_ago))

    with pytest.raises(ReleaseMissing):
        stage(Machine(), Store(Machine(), str(tmp_path)), "c" * 64)

    assert [path.exists() for path in (given_up, under_way, kept, bundle)] == [False, True, True, False]
