"""A host gets the psutil for its machine and libc, pinned by hash, fetched once. pip is real; its index is a folder."""

import hashlib
import re
import subprocess
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from threading import Event

import pytest

from fleet.events import EventType
from fleet.host import Host
from fleet.onhost.protocol import Ask, Outcome
from fleet.ssh.delivery.bundle import GENERIC, PACKAGE, Bundle, BundleStore, build, bundles, own_tag, psutil_files
from fleet.ssh.delivery.psutil_wheels import (
    PINS_FILE,
    PIP_PLATFORMS,
    Pin,
    WheelCache,
    WheelUnavailable,
    files_of,
    read_pins,
)
from fleet.ssh.remote.start_line import missing_platform
from fleet.ssh.visit import visit
from tests.support.onhost.pythons import found_pythons
from tests.support.places import ROOT
from tests.support.ssh.server import Sshd
from tests.support.ssh.stubs import Heard, a_task

FILE_TAGS = {
    "x86_64-glibc": "manylinux2010_x86_64.manylinux_2_12_x86_64.manylinux_2_28_x86_64",
    "aarch64-glibc": "manylinux2014_aarch64.manylinux_2_17_aarch64.manylinux_2_28_aarch64",
    "x86_64-musl": "musllinux_1_2_x86_64",
    "aarch64-musl": "musllinux_1_2_aarch64",
}
"""As the four wheels of psutil 7.2.2 are named."""
VERSION = "7.2.2"


def make_wheel(files: Mapping[str, bytes], tags: str) -> bytes:
    """A wheel that pip accepts, with psutil's modules for other systems and its tests, as in the real one."""
    info = f"psutil-{VERSION}.dist-info"
    more = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: psutil\nVersion: {VERSION}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: false\n"
        + b"".join(f"Tag: cp36-abi3-{tag}\n".encode() for tag in tags.split(".")),
        f"{info}/RECORD": b"",
        f"{info}/licenses/LICENSE": b"BSD",
        "psutil/_pswindows.py": b"",
        "psutil/tests/__init__.py": b"",
    }
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as sink:
        for name, data in {**files, **more}.items():
            sink.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def fake_files(platform: str) -> dict[str, bytes]:
    return {"psutil/__init__.py": platform.encode(), "psutil/_psutil_linux.abi3.so": b"\x7fELF"}


class Index:
    """A folder of wheels as pip's index, and the pins of its wheels."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.pins: dict[str, Pin] = {}
        self._patch = patch
        folder.mkdir()
        for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
            patch.delenv(name, raising=False)
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(folder))

    def hold(self, platform: str, wheel: bytes) -> None:
        (self.folder / f"psutil-{VERSION}-cp36-abi3-{FILE_TAGS[platform]}.whl").write_bytes(wheel)
        sha256 = hashlib.sha256(wheel).hexdigest()
        self.pins[platform] = Pin(f"psutil=={VERSION} --hash=sha256:{sha256}", sha256)

    def go_away(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """All four platforms have their wheel there."""
    found = Index(tmp_path / "index", monkeypatch)
    for platform in FILE_TAGS:
        found.hold(platform, make_wheel(fake_files(platform), FILE_TAGS[platform]))
    return found


# Which wheel


def test_every_platform_has_one_pinned_wheel_and_pip_s_name_for_it() -> None:
    assert set(read_pins(PINS_FILE.read_text())) == set(PIP_PLATFORMS) == set(FILE_TAGS)


def test_the_pinned_wheels_are_those_of_the_psutil_that_is_locked() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    psutil = next(part for part in re.split(r"\n(?! )", lock) if part.startswith("psutil=="))

    pins = read_pins(PINS_FILE.read_text())

    assert {pin.requirement.partition(" ")[0] for pin in pins.values()} == {psutil.partition(" ")[0]}
    assert [name for name, pin in pins.items() if f"--hash=sha256:{pin.sha256}" not in psutil] == []
    assert len({pin.sha256 for pin in pins.values()}) == 4


@pytest.mark.parametrize("platform", FILE_TAGS)
def test_pip_brings_the_wheel_of_the_platform_and_it_is_unpacked(platform: str, index: Index, tmp_path: Path) -> None:
    wheels = WheelCache(tmp_path / "cache", index.pins)
    shelf = BundleStore({GENERIC: build(GENERIC, PACKAGE)}, wheels)

    found = shelf.fetch(platform)

    assert found.tag == platform
    with zipfile.ZipFile(BytesIO(found.data)) as source:
        brought = {name: source.read(name) for name in source.namelist() if name.startswith("psutil-wheel/")}
    assert brought == {
        "psutil-wheel/psutil/LICENSE": b"BSD",
        **{f"psutil-wheel/{name}": data for name, data in fake_files(platform).items()},
    }
    assert shelf[platform] is found
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"{index.pins[platform].sha256}.whl"]


@pytest.mark.parametrize(
    ("told", "platform"),
    [
        ("x86_64 9223372036854775807 glibc 2.36", "x86_64-glibc"),
        ("aarch64 9223372036854775807 glibc 2.17", "aarch64-glibc"),
        ("x86_64 9223372036854775807  ", "x86_64-musl"),
        ("aarch64 9223372036854775807 libc ", "aarch64-musl"),
        ("x86_64 9223372036854775807 musl 1.2.5", "x86_64-musl"),
        ("x86_64 2147483647 glibc 2.28", "x86_64-32bit-glibc"),
    ],
    ids=["glibc", "arm64", "Alpine", "musl's own libc.so", "musl by Python 3.14", "32 bit"],
)
def test_the_libc_of_the_host_s_python_gives_the_platform(told: str, platform: str) -> None:
    found = missing_platform(f"fleet-missing bundle {told}".encode())

    assert found is not None
    assert found.tag == platform


@pytest.mark.parametrize("platform", ["riscv64-glibc", "x86_64-glibc-32bit", "armv7l-musl"])
def test_a_platform_without_a_wheel_runs_no_pip(platform: str, tmp_path: Path) -> None:
    with pytest.raises(WheelUnavailable, match="no wheel for it"):
        WheelCache(tmp_path / "cache").fetch(platform)

    assert not (tmp_path / "cache").exists()


def test_this_machine_s_own_psutil_needs_no_wheel() -> None:
    tag = own_tag()

    assert tag is not None
    assert bundles().fetch(tag) is bundles()[tag]


# By its hash


def test_a_wheel_with_another_hash_is_refused_by_pip(index: Index, tmp_path: Path) -> None:
    pin = index.pins["x86_64-musl"]
    index.hold("x86_64-musl", make_wheel({"psutil/__init__.py": b"evil"}, FILE_TAGS["x86_64-musl"]))
    wheels = WheelCache(tmp_path / "cache", {"x86_64-musl": pin})

    with pytest.raises(WheelUnavailable, match="(?i)hash"):
        wheels.fetch("x86_64-musl")

    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wheel_that_changed_in_the_cache_is_fetched_anew(index: Index, tmp_path: Path) -> None:
    wheels = WheelCache(tmp_path / "cache", index.pins)
    good = make_wheel(fake_files("aarch64-musl"), FILE_TAGS["aarch64-musl"])
    kept = tmp_path / "cache" / f"{index.pins['aarch64-musl'].sha256}.whl"
    kept.parent.mkdir()
    kept.write_bytes(good + b"evil")

    assert wheels.cached("aarch64-musl") is None
    assert wheels.fetch("aarch64-musl") == good == kept.read_bytes()


# Once


def test_a_second_run_needs_no_network(index: Index, tmp_path: Path) -> None:
    WheelCache(tmp_path / "cache", index.pins).fetch("aarch64-glibc")
    index.go_away()

    again = WheelCache(tmp_path / "cache", index.pins).fetch("aarch64-glibc")

    assert files_of(again)["psutil/__init__.py"] == b"aarch64-glibc"


def test_a_failed_fetch_is_not_repeated_in_a_run(index: Index, tmp_path: Path) -> None:
    index.go_away()
    shelf = BundleStore({GENERIC: build(GENERIC, PACKAGE)}, WheelCache(tmp_path / "cache", index.pins))

    with pytest.raises(WheelUnavailable, match="pip could not fetch the wheel"):
        shelf.fetch("x86_64-musl")
    index.hold("x86_64-musl", make_wheel(fake_files("x86_64-musl"), FILE_TAGS["x86_64-musl"]))
    with pytest.raises(WheelUnavailable, match="pip could not fetch the wheel"):
        shelf.fetch("x86_64-musl")


def test_a_cached_platform_does_not_wait_for_another_one_s_wheel(tmp_path: Path) -> None:
    class Slow(WheelCache):
        """As pip is without a network."""

        begun, ended = Event(), Event()

        def fetch(self, platform: str) -> bytes:
            self.begun.set()
            self.ended.wait()
            raise WheelUnavailable("it took too long")

    slow = Slow(tmp_path / "cache")
    mine = build("x86_64-glibc", PACKAGE)
    shelf = BundleStore({GENERIC: build(GENERIC, PACKAGE), mine.tag: mine}, slow)
    with ThreadPoolExecutor(2) as threads:
        other = threads.submit(shelf.fetch, "aarch64-musl")
        slow.begun.wait()
        found = threads.submit(shelf.fetch, mine.tag)
        done, _ = wait([found], timeout=5)
        slow.ended.set()

    assert done == {found}
    assert found.result() is mine
    assert isinstance(other.exception(), WheelUnavailable)


# On a host


class Laptop:
    """A laptop on another platform than its hosts: its psutil comes from a wheel."""

    def __init__(self, tmp_path: Path, index: Index) -> None:
        self.cache = tmp_path / "cache"
        self.index = index
        tag = own_tag()
        assert tag is not None
        self.tag = tag
        index.hold(tag, make_wheel(dict(psutil_files()), FILE_TAGS[tag]))

    def shelf(self) -> BundleStore:
        """As a new process has it."""
        found: dict[str, Bundle] = {GENERIC: build(GENERIC, PACKAGE)}
        wheels = WheelCache(self.cache, self.index.pins)
        kept = wheels.cached(self.tag)
        if kept is not None:
            found[self.tag] = build(self.tag, PACKAGE, files_of(kept))
        return BundleStore(found, wheels)


@pytest.fixture
def laptop(tmp_path: Path, index: Index) -> Laptop:
    return Laptop(tmp_path, index)


@pytest.fixture
def without_psutil(server: Sshd, tmp_path: Path) -> Host:
    """A host whose Python has none of its own."""
    python = found_pythons()[0].executable
    assert subprocess.run([python, "-I", "-c", "import psutil"], capture_output=True, check=False).returncode != 0
    return replace(server.host, python=python, layout=server.host.layout._replace(state_dir=str(tmp_path / "state")))


def test_a_host_gets_the_wheel_and_runs_with_it(laptop: Laptop, without_psutil: Host) -> None:
    outcome = visit(a_task(without_psutil), Heard(), laptop.shelf())
    laptop.index.go_away()
    again = visit(a_task(without_psutil), Heard(), laptop.shelf())

    assert (outcome.outcome, again.outcome) == (Outcome.DONE, Outcome.DONE)
    assert len(list(Path(without_psutil.layout.state_dir).glob("bundles/*"))) == 1


def test_a_host_without_psutil_is_refused_until_psutil_can_be_fetched(laptop: Laptop, without_psutil: Host) -> None:
    wheel = {path.name: path.read_bytes() for path in laptop.index.folder.iterdir()}
    laptop.index.go_away()
    heard = Heard()

    refused = visit(a_task(without_psutil, Ask.STAGE), heard, laptop.shelf())
    for name, data in wheel.items():
        (laptop.index.folder / name).write_bytes(data)
    later = visit(a_task(without_psutil, Ask.STAGE), Heard(), laptop.shelf())

    assert (refused.outcome, refused.reason) == (Outcome.REFUSED, "psutil_missing")
    assert "pip could not fetch the wheel" in refused.message
    assert "`apt-get install python3-psutil` (Debian" in refused.remedy
    assert "`apk add py3-psutil` (Alpine)" in refused.remedy
    notes = [event.reason for event in heard.events if event.type is EventType.NOTE]
    assert set(notes) == {"psutil_not_fetched"}
    assert later.reason != "psutil_missing"
