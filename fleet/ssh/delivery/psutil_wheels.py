"""psutil for hosts on another platform than this machine: the platform's wheel, fetched once, pinned by its hash.

`host-wheels.txt` pins four wheels, by machine and libc. pip fetches one when the first host of that platform is visited,
from this machine's own package index, into the user's cache folder, so that later runs need no network. The hash is
compared at every use: the hosts run this file as root.
"""

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import platformdirs

PINS_FILE = Path(__file__).with_name("host-wheels.txt")
PIP_PLATFORMS: Mapping[str, str] = MappingProxyType(
    {
        "x86_64-glibc": "manylinux2014_x86_64",
        "aarch64-glibc": "manylinux2014_aarch64",
        "x86_64-musl": "musllinux_1_2_x86_64",
        "aarch64-musl": "musllinux_1_2_aarch64",
    }
)
"""Platform as `start_line.Platform.tag` names it -> as pip does."""
FETCH_TIMEOUT_S = 120.0
# psutil's modules for other systems, which no host needs.
FOREIGN = ("_psaix.py", "_psbsd.py", "_psosx.py", "_pssunos.py", "_pswindows.py")


class WheelUnavailable(Exception):
    """This machine has no psutil for that platform; the text says why."""


@dataclass(frozen=True, slots=True)
class Pin:
    """The wheel for a platform: pip's requirement, and its hash."""

    requirement: str
    sha256: str


def read_pins(text: str) -> dict[str, Pin]:
    """Platform -> pin, from the lines of `host-wheels.txt`."""
    found = {}
    for line in text.splitlines():
        requirement, _, platform = line.partition("#")
        sha256 = requirement.partition("--hash=sha256:")[2].strip()
        if sha256:
            found[platform.strip()] = Pin(requirement.strip(), sha256)
    return found


class WheelCache:
    """The wheels in one folder, into which pip fetches more."""

    def __init__(self, folder: Path | None = None, pins: Mapping[str, Pin] | None = None) -> None:
        self._folder = folder or platformdirs.user_cache_path("fleet") / "wheels"
        self._pins = read_pins(PINS_FILE.read_text(encoding="ascii")) if pins is None else pins

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms with a pinned wheel."""
        return tuple(self._pins)

    @property
    def kept(self) -> tuple[Path, ...]:
        """The files of the wheels that the folder has; their hashes are not looked at."""
        return tuple(path for pin in self._pins.values() if (path := self._path(pin)).exists())

    def cached(self, platform: str) -> bytes | None:
        """The wheel, if the cache has it and its hash is right; else `None`."""
        try:
            data = self._path(self._pins[platform]).read_bytes()
        except (OSError, KeyError):
            return None
        return data if hashlib.sha256(data).hexdigest() == self._pins[platform].sha256 else None

    def fetch(self, platform: str) -> bytes:
        """The wheel, from the cache or fetched by pip. Raises `WheelUnavailable`."""
        if platform not in self._pins:
            raise WheelUnavailable("psutil has no wheel for it")
        found = self.cached(platform)
        if found is not None:
            return found
        pin = self._pins[platform]
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=".fetch.", dir=self._folder) as name:
                self._store(pin, _download(pin, platform, Path(name)))
        except OSError as error:
            raise WheelUnavailable(f"the cache can't be written: {error}") from error
        found = self.cached(platform)
        if found is None:
            raise WheelUnavailable("pip brought another file than the pinned one")
        return found

    def _store(self, pin: Pin, folder: Path) -> None:
        for path in folder.glob("*.whl"):
            os.replace(path, self._path(pin))

    def _path(self, pin: Pin) -> Path:
        return self._folder / f"{pin.sha256}.whl"


def _download(pin: Pin, platform: str, folder: Path) -> Path:
    """The folder with the wheel that pip fetched; pip refuses another hash. Raises `WheelUnavailable`, OSError."""
    wanted = folder / "wanted.txt"
    wanted.write_text(pin.requirement + "\n", encoding="ascii")
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "--quiet", "download"]
    command += ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--platform", PIP_PLATFORMS[platform]]
    command += ["--python-version", "3.6", "--implementation", "cp", "--abi", "abi3"]
    command += ["--dest", str(folder), "--requirement", str(wanted)]
    try:
        ran = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=FETCH_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise WheelUnavailable(f"pip did not end within {FETCH_TIMEOUT_S:g} s") from error
    if ran.returncode != 0:
        raise WheelUnavailable(f"pip could not fetch the wheel: {_pip_error(ran.stderr)}")
    return folder


def _pip_error(stderr: bytes) -> str:
    """pip's last error, or else its last line."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["it gave no reason"])[-1]


def files_of(wheel: bytes) -> dict[str, bytes]:
    """psutil's files in a wheel, by path, with its licence. Raises `WheelUnavailable`."""
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as source:
            return {kept: source.read(name) for name, kept in wanted_files(source.namelist())}
    except zipfile.BadZipFile as error:
        raise WheelUnavailable(f"the wheel can't be read: {error}") from error


def wanted_files(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The files of a wheel that a host needs, as pairs: path in the wheel, path in the bundle."""
    for name in names:
        parts = name.split("/")
        wanted = parts[0] == "psutil" and len(parts) == 2 and name.endswith((".py", ".so"))
        if (wanted and parts[-1] not in FOREIGN) or parts[-1].startswith("LICENSE"):
            yield name, f"psutil/{parts[-1]}"
