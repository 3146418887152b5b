"""What staging does to the store besides taking the release."""

import os
import time
from pathlib import Path

import pytest

from fleet.onhost.machine import Machine
from fleet.onhost.record import GIVEN_UP_S, Store
from fleet.onhost.stage import ReleaseMissing, stage


def test_an_upload_that_was_given_up_is_forgotten_and_one_under_way_is_not(tmp_path: Path) -> None:
    given_up, under_way = (tmp_path / "releases" / name / "nginx.part.0a1b2c3d" for name in ("a" * 64, "b" * 64))
    kept = given_up.with_name("nginx")
    for path in (given_up, under_way, kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    long_ago = time.time() - GIVEN_UP_S - 60
    for path in (given_up, kept):
        os.utime(path, (long_ago, long_ago))

    with pytest.raises(ReleaseMissing):
        stage(Machine(), Store(Machine(), str(tmp_path)), "c" * 64)

    assert [path.exists() for path in (given_up, under_way, kept)] == [False, True, True]
