"""The bundle: the step script as one `.pyz` with psutil beside it, sent to a host once and run there at every visit.

The same files give the same bytes (fixed times, sorted names), and the bytes give the name. So a host that has the
bundle is not sent it again, and can't run an outdated one. There is one bundle for each platform whose psutil this
machine has, and a generic one for hosts with their own psutil. This machine has its own psutil, if that is the abi3 build
(it loads in every Python since 3.6), and the wheels that `psutil_wheels` has fetched.
"""

import hashlib
import importlib.metadata
import importlib.util
import io
import platform
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from types import ModuleType

import fleet.onhost
from fleet.onhost.bootstrap import receive, safe_folders, start
from fleet.ssh.delivery.bundle_cache import BundleCache, identity
from fleet.ssh.delivery.psutil_wheels import WheelCache, WheelUnavailable, files_of, wanted_files
from fleet.ssh.remote.start_line import Platform

GENERIC = "generic"
EPOCH = (1980, 1, 1, 0, 0, 0)
FILE_MODE = 0o100644
KEY_LETTERS = 32
PACKAGE = Path(fleet.onhost.__file__).parent
ABI3 = "_psutil_linux.abi3.so"

ROOT_MAIN = '''"""Run as `python3 -I -B fleet.pyz`: be the step script, from its unpacked files."""

import sys

from fleet.onhost.bootstrap import start

start.prepare(sys.argv[0])
from fleet.onhost.__main__ import main

sys.exit(main())
'''
START = """
if is_ready(sys.argv[1]):
    from fleet.onhost.__main__ import main

    sys.exit(main())
"""
"""After the text of bootstrap/start.py."""
OWN_IMPORT = re.compile(r"^from fleet\.onhost\.bootstrap\.\w+ import .*\n", re.MULTILINE)
"""What a text imports of another one, which stands before it."""

_MAKING = Lock()


@dataclass(frozen=True, slots=True)
class Bundle:
    """The bytes of a `.pyz` and the tag of its platform."""

    tag: str
    data: bytes
    sha256: str

    @property
    def key(self) -> str:
        """The name of its folder on the host."""
        return self.sha256[:KEY_LETTERS]


class BundleStore(Mapping[str, Bundle]):
    """The bundles by platform tag, and `generic` for all others. `fetch` adds more."""

    def __init__(self, at_hand: Mapping[str, Bundle], wheels: WheelCache) -> None:
        self._at_hand = dict(at_hand)
        self._wheels = wheels
        self._fetching = Lock()
        self._failed: dict[str, str] = {}

    def fetch(self, tag: str) -> Bundle:
        """The bundle for a platform, with psutil, which is fetched at most once in a run. Raises `WheelUnavailable`."""
        found = self._at_hand.get(tag)
        if found is not None:
            return found  # without waiting while pip fetches another platform's wheel
        with self._fetching:
            if tag in self._failed:
                raise WheelUnavailable(self._failed[tag])
            if tag not in self._at_hand:
                try:
                    made = build(tag, PACKAGE, files_of(self._wheels.fetch(tag)))
                except WheelUnavailable as error:
                    self._failed[tag] = str(error)
                    raise
                # A new dict: other threads may be iterating over the old one.
                self._at_hand = {**self._at_hand, tag: made}
            return self._at_hand[tag]

    def __getitem__(self, tag: str) -> Bundle:
        return self._at_hand[tag]

    def __iter__(self) -> Iterator[str]:
        return iter(self._at_hand)

    def __len__(self) -> int:
        return len(self._at_hand)


def bundles() -> BundleStore:
    """This process's bundles: the generic one, this machine's own, and those whose psutil was fetched before."""
    with _MAKING:  # all visits begin at once, and must share one store to fetch once
        return _made()


@cache
def _made() -> BundleStore:
    wheels = WheelCache()
    return BundleStore(kept_or_built(BundleCache(), wheels), wheels)


def kept_or_built(cache: BundleCache, wheels: WheelCache) -> dict[str, Bundle]:
    """The bundles of this fleet by tag: from the cache, or built and kept there."""
    try:
        name = identity(_sources(wheels), fleet.__version__, str(own_tag()), zlib.ZLIB_RUNTIME_VERSION)
    except OSError:
        return _built(wheels)
    kept = cache.load(name)
    if kept is not None:
        return {tag: _bundle(tag, data) for tag, data in kept.items()}
    built = _built(wheels)
    cache.store(name, {tag: each.data for tag, each in built.items()})
    return built


def _sources(wheels: WheelCache) -> Iterator[Path]:
    """Every file that goes into a bundle, and those that say how."""
    yield from Path(__file__).parent.glob("*.py")
    yield from PACKAGE.rglob("*.py")
    yield from wheels.kept
    spec = importlib.util.find_spec("psutil")
    if spec is not None and spec.origin is not None:
        yield from (path for path in Path(spec.origin).parent.iterdir() if path.is_file())


def _built(wheels: WheelCache) -> dict[str, Bundle]:
    own = own_tag()
    found = {GENERIC: build(GENERIC, PACKAGE)}
    files = dict(psutil_files())
    if own is not None and files:
        found[own] = build(own, PACKAGE, files)
    for tag in wheels.platforms:
        kept = wheels.cached(tag)
        if tag not in found and kept is not None:
            found[tag] = build(tag, PACKAGE, files_of(kept))
    return found


def fitting(tag: str, among: Mapping[str, Bundle]) -> Bundle:
    """The bundle for a platform, or the generic one."""
    return among.get(tag) or among[GENERIC]


def build(tag: str, package: Path, psutil: Mapping[str, bytes] | None = None) -> Bundle:
    """The bundle of the step script in `package`, with psutil's files (path below `psutil-wheel/` -> bytes)."""
    return pack(tag, contents(package, psutil))


def contents(package: Path, psutil: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """The files of that bundle, by path."""
    files = {"__main__.py": ROOT_MAIN.encode(), "fleet/__init__.py": b""}
    for path in package.rglob("*.py"):
        files[f"fleet/onhost/{path.relative_to(package).as_posix()}"] = path.read_bytes()
    for name, data in (psutil or {}).items():
        files[f"{start.WHEEL}/{name}"] = data
    return files


def pack(tag: str, files: Mapping[str, bytes]) -> Bundle:
    """The bundle of these files. The same files always give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as sink:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = FILE_MODE << 16
            sink.writestr(entry, files[name])
    return _bundle(tag, buffer.getvalue())


def _bundle(tag: str, data: bytes) -> Bundle:
    return Bundle(tag, data, hashlib.sha256(data).hexdigest())


def own_tag() -> str | None:
    """The platform of this machine, as `start_line.Platform.tag` names it; `None` when no host can have the same."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return None
    return Platform.of(platform.machine(), platform.libc_ver()[0]).tag


def psutil_files() -> Iterator[tuple[str, bytes]]:
    """The files of this machine's psutil, with its licence; none unless it is the abi3 build for Linux."""
    listed = importlib.metadata.files("psutil") or []
    if not any(path.name == ABI3 for path in listed):
        return
    located = {path.as_posix(): path.locate() for path in listed}
    for name, kept in wanted_files(located):
        yield kept, Path(str(located[name])).read_bytes()


def receive_text(bundle: Bundle, state_dir: str) -> bytes:
    """The first line of stdin for `RootCommand.run_text`; the bundle's bytes follow it."""
    return _first_line(receive, f"main({state_dir!r}, {bundle.key!r}, {bundle.sha256!r}, {len(bundle.data)})")


@cache
def start_text() -> bytes:
    """The first line of stdin for `RootCommand.run_bundle`; the request follows it."""
    return _first_line(start, START)


def _first_line(module: ModuleType, call: str) -> bytes:
    texts = [Path(str(one.__file__)).read_text(encoding="utf-8") for one in (safe_folders, module)]
    source = OWN_IMPORT.sub("", "\n".join(texts))
    return repr(f"{source}\n\n{call}\n").encode("utf-8") + b"\n"
