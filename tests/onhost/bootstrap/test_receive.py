"""What is swept before a bundle is received; `ssh/delivery/test_provision.py` receives with a real sshd."""

import os
import time
from pathlib import Path

import pytest

from fleet.onhost.bootstrap.receive import forget_given_up
from fleet.onhost.bootstrap.safe_folders import GIVEN_UP_S


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The folder of a bundle, in a state folder below `way`."""
    folder = tmp_path / "way" / "state" / "bundles" / "key"
    (folder / "lib" / "fleet").mkdir(parents=True)
    (folder / "fleet.pyz").touch()
    return folder


def test_abandoned_uploads_are_swept_and_running_ones_are_not(bundle: Path) -> None:
    old, young = (bundle / "fleet.pyz.part.1", bundle / ".lib.a"), (bundle / "fleet.pyz.part.2", bundle / ".lib.b")
    for part, unpacked in (old, young):
        part.touch()
        (unpacked / "fleet").mkdir(parents=True)
    long_ago = time.time() - GIVEN_UP_S - 60
    for path in (*old, bundle / "lib", bundle / "fleet.pyz"):
        os.utime(path, (long_ago, long_ago))

    forget_given_up(str(bundle.parent))

    assert sorted(path.name for path in bundle.iterdir()) == [".lib.b", "fleet.pyz", "fleet.pyz.part.2", "lib"]
