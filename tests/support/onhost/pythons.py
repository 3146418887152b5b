"""The Pythons of this machine that the on-host script can be tried on: one CPython of each minor version from 3.6."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

OLDEST = (3, 6)
NEWEST = (3, 13)
ASK = "import platform; print(platform.python_implementation(), platform.python_version())"


class Python(NamedTuple):
    """An interpreter: `version` is like `3.6.15`."""

    version: str
    executable: str

    @property
    def minor(self) -> tuple[int, int]:
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)


@cache
def found_pythons() -> tuple[Python, ...]:
    """One CPython per minor version, oldest first; the running one is among them."""
    by_minor: dict[tuple[int, int], Python] = {}
    for candidate in _candidates():
        python = _ask(candidate)
        if python is not None and python.minor >= OLDEST:
            by_minor.setdefault(python.minor, python)
    return tuple(by_minor[minor] for minor in sorted(by_minor))


def missing_pythons() -> tuple[str, ...]:
    """The versions of the promise that this machine doesn't have."""
    here = {python.minor for python in found_pythons()}
    return tuple(f"3.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1) if (3, minor) not in here)


def _candidates() -> Iterator[Path]:
    """Where a Python may be. A version manager's shims are passed over: they only choose among its real ones."""
    # The running one comes first, without its virtual environment: a host has no psutil of this repository.
    yield Path(sys.base_prefix) / "bin" / "python{}.{}".format(*sys.version_info)
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for folder in (*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/bin", "/usr/local/bin"):
        if Path(folder).name != "shims":
            yield from (Path(folder) / f"python3{minor}" for minor in ("", *(f".{n}" for n in range(6, 21))))
    yield from sorted(versions.glob("3.*/bin/python3"))


def _ask(executable: Path) -> Python | None:
    if not executable.is_file():
        return None
    try:
        asked = subprocess.run([executable, "-I", "-c", ASK], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    implementation, _, version = asked.stdout.strip().partition(" ")
    if asked.returncode != 0 or implementation != "CPython":
        return None
    return Python(version, str(executable))
