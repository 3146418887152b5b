"""A release is compressed once for all visits, and again when the file has changed."""

import gzip
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet.ssh.delivery.compress import AS_IT_IS, FAST, WELL, compressed_release, level_for
from fleet.ssh.link_errors import HostRefused


def test_a_release_is_compressed_once_for_all_visits(tmp_path: Path) -> None:
    release = tmp_path / "nginx"
    release.write_bytes(b"nginx " * 100_000)

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(compressed_release, [release] * 8))

    assert all(one is found[0] for one in found)
    assert gzip.decompress(found[0].data) == release.read_bytes()
    assert found[0].unpacked_bytes == 600_000
    assert len(found[0].data) < 60_000


def test_a_changed_release_is_compressed_again(tmp_path: Path) -> None:
    release = tmp_path / "nginx"
    release.write_bytes(b"old")
    compressed_release(release)
    (tmp_path / "built").write_bytes(b"new")
    os.replace(tmp_path / "built", release)

    assert gzip.decompress(compressed_release(release).data) == b"new"


def test_a_missing_release_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(HostRefused) as caught:
        compressed_release(tmp_path / "nginx")

    assert caught.value.reason == "release_unreadable"


NOISE = random.Random(7).randbytes(1 << 20)
TEXT = b"the upgrade of nginx on many hosts "


@pytest.mark.parametrize(
    ("content", "level"),
    [
        (NOISE, AS_IT_IS),
        (b"", AS_IT_IS),
        (TEXT * 10_000, WELL),
        (TEXT * 10, WELL),
        (NOISE + TEXT * 8_000, FAST),
        (NOISE + TEXT, AS_IT_IS),
        (TEXT * 40_000 + NOISE, WELL),
    ],
    ids=["noise", "empty", "text", "little", "a fifth", "a bit of text", "half"],
)
def test_the_level_is_as_high_as_it_pays(content: bytes, level: int) -> None:
    assert level_for(content) == level


def test_what_does_not_shrink_is_hardly_longer_and_comes_back_whole(tmp_path: Path) -> None:
    release = tmp_path / "nginx"
    release.write_bytes(NOISE)

    found = compressed_release(release)

    assert gzip.decompress(found.data) == NOISE
    assert len(found.data) < len(NOISE) * 1.001
