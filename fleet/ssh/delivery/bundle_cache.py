"""The bundles that this user's fleet has made, kept in the user's cache folder: to make them costs 0.1 s of CPU.

The hosts run these bytes as root. So a file counts only if it, and its folder, belong to this user and nobody else may
write there, if it was made from just the same files (by time, size and inode), and if each bundle has its hash. Whoever can
get around that can change fleet itself. Anything else is made anew, and so is what can't be read.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

import platformdirs

KEPT = 3
"""How many files stay in the folder: one for each fleet that this user runs by turns."""
SUFFIX = ".bundles"
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def identity(files: Iterable[Path], *words: str) -> str:
    """A name for what is made from these files and words: another one when a file was changed or replaced. Raises OSError."""
    seen = [(str(path), found.st_mtime_ns, found.st_size, found.st_ino) for path in files for found in (path.stat(),)]
    return hashlib.sha256(repr((sorted(seen), words)).encode("utf-8", "surrogateescape")).hexdigest()


class BundleCache:
    """The files of one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or platformdirs.user_cache_path("fleet") / "bundles"

    def load(self, name: str) -> dict[str, bytes] | None:
        """The bundles by platform tag that were stored under this name; `None` when there are none to be trusted."""
        try:
            if not _is_own(os.lstat(self._folder), stat.S_IFDIR):
                return None
            descriptor = os.open(self._folder / f"{name}{SUFFIX}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                return _parsed(file.read()) if _is_own(os.fstat(descriptor), stat.S_IFREG) else None
        except (OSError, ValueError, TypeError):
            return None

    def store(self, name: str, bundles: Mapping[str, bytes]) -> None:
        """Keeps the bundles, if the folder can be written and is this user's."""
        head = [(tag, len(data), hashlib.sha256(data).hexdigest()) for tag, data in bundles.items()]
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_own(os.lstat(self._folder), stat.S_IFDIR):
                return
            with NamedTemporaryFile(dir=self._folder, prefix=".new.", delete=False) as file:
                try:
                    file.write(b"".join((json.dumps(head).encode("ascii"), b"\n", *bundles.values())))
                    file.flush()
                    os.replace(file.name, self._folder / f"{name}{SUFFIX}")
                except BaseException:
                    os.unlink(file.name)
                    raise
            files = sorted(self._folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
            for old in files[:-KEPT]:
                old.unlink()


def _is_own(seen: os.stat_result, kind: int) -> bool:
    return stat.S_IFMT(seen.st_mode) == kind and seen.st_uid == os.geteuid() and not seen.st_mode & OTHERS_MAY_WRITE


def _parsed(data: bytes) -> dict[str, bytes] | None:
    """The bundles in a file; `None` when one is not as it was written. Raises `ValueError`, `TypeError`."""
    line, _, rest = data.partition(b"\n")
    found: dict[str, bytes] = {}
    for tag, size, sha256 in json.loads(line):
        found[tag], rest = rest[:size], rest[size:]
        if hashlib.sha256(found[tag]).hexdigest() != sha256:
            return None
    return found
