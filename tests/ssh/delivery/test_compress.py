"""A release is compressed once for all visits, and again when the file has changed."""

import gzip
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet.ssh.delivery.compress import compressed_release
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
