"""The libc's extended attributes are those that `os` sees, and a copy keeps them where `os` knows of none."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from fleet.onhost.system import xattr
from tests.support.onhost.pythons import found_pythons
from tests.support.places import ROOT

NAME = "trusted.fleet-tést"
VALUE = b"one\0two\xff"
# As in a Python that was built with musl's libc.
COPY = """
import os, sys
del os.listxattr, os.getxattr, os.setxattr
sys.path.insert(0, sys.argv[1])
sys.modules["psutil"] = os
from fleet.onhost.system.machine import Machine
Machine().copy(sys.argv[2], sys.argv[3], like=sys.argv[4])
"""


@pytest.fixture
def marked(tmp_path: Path) -> str:
    path = tmp_path / "marked"
    path.write_text("old")
    os.setxattr(path, NAME, VALUE)
    return str(path)


def test_the_libc_and_os_read_the_same_attributes(marked: str) -> None:
    assert (xattr.listxattr(marked), xattr.getxattr(marked, NAME)) == (os.listxattr(marked), VALUE)


@pytest.mark.parametrize("value", [b"", b"new\0", b"x" * 3000], ids=["empty", "other", "long"])
def test_os_reads_the_attributes_that_the_libc_writes(marked: str, value: bytes) -> None:
    xattr.setxattr(marked, NAME, value)

    assert os.getxattr(marked, NAME) == value


def test_an_error_is_that_of_os(marked: str) -> None:
    with pytest.raises(OSError) as missing:
        xattr.getxattr(marked, "trusted.none")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        xattr.listxattr(os.path.dirname(marked) + "/nowhere")
    with pytest.raises(OSError) as refused:
        xattr.setxattr("/proc/version", NAME, VALUE)

    assert (missing.value.errno, refused.value.errno) == (errno.ENODATA, errno.ENOTSUP)


def test_a_copy_on_a_musl_host_keeps_the_attributes(marked: str, tmp_path: Path) -> None:
    release, target = tmp_path / "release", tmp_path / "target"
    release.write_text("new")

    subprocess.run([found_pythons()[0].executable, "-I", "-c", COPY, ROOT, release, target, marked], check=True)

    assert (target.read_text(), os.getxattr(target, NAME)) == ("new", VALUE)
