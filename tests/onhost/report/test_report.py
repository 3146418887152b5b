"""A look is quick: most hosts are only looked at, and each one starts a Python for it."""

import subprocess

import pytest

from tests.support.onhost.pythons import Python, found_pythons
from tests.support.places import ROOT

LOADED = "import sys; sys.path.insert(0, {root!r}); import fleet.onhost.__main__; print(*sys.modules)"
# What costs a millisecond or more, and is for what a look does not do.
SPARED = {
    *("psutil", "subprocess", "shutil", "ctypes", "datetime", "zipfile", "tempfile", "runpy"),
    *("ssl", "http", "email", "urllib", "ipaddress"),
    *("fleet.onhost.visit.answer", "fleet.onhost.preflight", "fleet.onhost.rehearsal", "fleet.onhost.reasons"),
    *("fleet.onhost.steps", "fleet.onhost.state.watcher", "fleet.onhost.bootstrap.unpack"),
}


@pytest.mark.parametrize("python", found_pythons(), ids=lambda python: python.version)
def test_what_only_other_requests_need_is_not_loaded_for_a_look(python: Python) -> None:
    command = [python.executable, "-I", "-S", "-c", LOADED.format(root=str(ROOT))]

    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert "fleet.onhost.report.report" in loaded
    assert SPARED & set(loaded) == set()
