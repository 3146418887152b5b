"""Runs first at every visit: stores the bundle from stdin, or starts the bundle that is there.

Before either, every folder on the way to the bundle must belong to root alone: a user who can write to one of them would
be root at the next visit. So nothing stored there may take part in that check; this file's text arrives as the first
line of stdin and imports nothing else of fleet. A file under its final name is complete and has the right hash. A
folder that only root can write to now can't be changed by others later.
"""

import errno
import glob
import hashlib
import os
import runpy
import shutil
import signal
import stat
import sys
import time
from contextlib import suppress
from io import BufferedIOBase
from itertools import chain
from typing import Iterator, Optional, Tuple, cast

BLOCK = 1 << 16
IDLE_S = 600
"""Seconds without input after which the script gives up: a cut link reports nothing. The value is high, because a laptop
with a rate limit serves its other hosts in the meantime."""
MOST_LINKS = 40
"""The most symbolic links on one path, as in Linux itself."""
GIVEN_UP_S = 3600.0
"""Seconds without a write after which a partial file is left over from a dead process; a younger one may be in use."""
KEPT = ("releases", "instances")
PART, UNPACKING = ".part.", ".lib."  # The temporary names of `store` and of bootstrap/unpack.py.


def receive(source: BufferedIOBase, state_dir: str, key: str, sha256: str, size_bytes: int) -> str:
    """`stored`, or `unsafe PLACE`, `damaged`, `failed WHY`: then nothing is stored under the final name."""
    os.umask(0o077)
    folder = os.path.join(state_dir, "bundles", key)
    try:
        unsafe = made_unsafe(folder)
        if unsafe is not None:
            return "unsafe " + unsafe
        forget_given_up(os.path.dirname(folder))
        return store(source, os.path.join(folder, "fleet.pyz"), sha256, size_bytes)
    except OSError as error:
        return failed(error, folder)


def failed(error: OSError, folder: str) -> str:
    """The answer when a system call failed."""
    return "failed %s: %s" % (error.filename or folder, error.strerror or error)


def made_unsafe(folder: str) -> Optional[str]:
    """The result of `first_unsafe` before and after the folder is made: below a sticky folder another user may be faster."""
    unsafe = first_unsafe(folder)
    if unsafe is None:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        unsafe = first_unsafe(folder)
    return unsafe


def first_unsafe(folder: str) -> Optional[str]:
    """The first place on the way to a bundle's folder, or in it, that others than root can write to or replace.

    A place that does not exist yet is safe. Raises OSError.
    """
    state_dir = os.path.dirname(os.path.dirname(folder))
    roots = [folder] + [os.path.join(state_dir, name) for name in KEPT]
    for path, seen in chain.from_iterable(map(on_the_way, roots)):
        # The mode of a link means nothing. In a sticky folder (/tmp) users can't rename the files of others.
        harmless = stat.S_ISLNK(seen.st_mode) or seen.st_mode & stat.S_ISVTX
        if belongs_to_another(seen) or (is_open(path, seen) and not harmless):
            return path
    for path, seen in own_places(folder):
        if belongs_to_another(seen) or is_open(path, seen):
            return path
    return None


def belongs_to_another(seen: os.stat_result) -> bool:
    """Whether the owner is neither root nor (in tests) this user."""
    return seen.st_uid not in (0, os.geteuid())


def is_open(path: str, seen: os.stat_result) -> bool:
    """Whether others than the owner may write to it.

    Root's own group may, unless an access control list exists: then the group bits are the mask of that list.
    """
    if seen.st_mode & stat.S_IWOTH:
        return True
    return bool(seen.st_mode & stat.S_IWGRP) and (seen.st_gid != 0 or has_access_list(path))


def has_access_list(path: str) -> bool:
    """Whether an access control list may exist: a Python built with musl can't tell."""
    for kind in ("system.posix_acl_access", "system.nfs4_acl"):
        try:
            os.getxattr(path, kind)
        except AttributeError:
            return True
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.ENOTSUP):
                continue
        return True
    return False


def on_the_way(path: str) -> Iterator[Tuple[str, os.stat_result]]:
    """Every existing folder and symbolic link that the kernel passes on its way to `path`.

    Raises OSError, also for links that form a loop.
    """
    here, links = "/", 0
    left = path.split("/")[::-1]
    yield here, os.lstat(here)
    while left:
        name = left.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)  # Already passed.
            continue
        there = os.path.join(here, name)
        try:
            seen = os.lstat(there)
        except FileNotFoundError:
            return
        yield there, seen
        if not stat.S_ISLNK(seen.st_mode):
            here = there
            continue
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(there)
        here = "/" if target.startswith("/") else here
        left += target.split("/")[::-1]


def own_places(folder: str) -> Iterator[Tuple[str, os.stat_result]]:
    """The state folder, its bundles, this bundle's folder with all its contents, and fleet's other folders there.

    A link beside the bundle counts as open to all, as its mode says: there should be none.
    """
    bundles = os.path.dirname(folder)
    state_dir = os.path.dirname(bundles)
    kept = [place for name in KEPT for place, _, _ in os.walk(os.path.join(state_dir, name))]
    for path in [state_dir, bundles, folder] + kept:
        with suppress(FileNotFoundError):
            yield path, os.stat(path)
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(place, name)
            with suppress(FileNotFoundError):  # Another visit is unpacking the bundle or compiling its modules.
                yield path, os.lstat(path)


def forget_given_up(bundles: str) -> None:
    """Remove every part of a bundle, sent or unpacked, without a write for `GIVEN_UP_S`, where it can be removed."""
    anywhere = os.path.join(glob.escape(bundles), "*")
    for pattern in ("fleet.pyz" + PART + "*", UNPACKING + "*"):
        for path in glob.glob(os.path.join(anywhere, pattern)):
            with suppress(OSError):  # Another visit may have removed it.
                if time.time() - os.lstat(path).st_mtime > GIVEN_UP_S:
                    _remove(path)


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def store(source: BufferedIOBase, path: str, sha256: str, size_bytes: int) -> str:
    """`stored` when the bytes are at `path`, on the disk; `damaged` when their hash is wrong."""
    part = "%s%s%d" % (path, PART, os.getpid())
    digest = hashlib.sha256()
    try:
        with open(part, "wb") as sink:
            left = size_bytes
            while left:
                signal.alarm(IDLE_S)
                block = source.read1(min(left, BLOCK))  # Read what is available: a full block may take long.
                if not block:
                    return "damaged"
                digest.update(block)
                sink.write(block)
                left -= len(block)
            sink.flush()
            os.fsync(sink.fileno())
        if digest.hexdigest() != sha256:
            return "damaged"
        os.rename(part, path)
        return "stored"
    finally:
        signal.alarm(0)
        if os.path.exists(part):
            os.unlink(part)


def too_late(signum: int, frame: object) -> None:
    """Handler of the alarm: the waiting read fails."""
    raise OSError(errno.ETIMEDOUT, "nothing more came for %d s" % IDLE_S)


def main(state_dir: str, key: str, sha256: str, size_bytes: int) -> None:
    """Receive the bundle and print the answer on a line of its own."""
    signal.signal(signal.SIGALRM, too_late)
    print("fleet-" + receive(cast(BufferedIOBase, sys.stdin.buffer), state_dir, key, sha256, size_bytes))
    sys.stdout.flush()


def start(bundle: str) -> None:
    """Run the bundle as if Python had been given it, if it belongs to root alone; else print `unsafe PLACE` or `failed WHY`."""
    signal.alarm(0)
    folder = os.path.dirname(bundle)
    try:
        unsafe = first_unsafe(folder)
        answer = None if unsafe is None else "unsafe " + unsafe
    except OSError as error:
        answer = failed(error, folder)
    if answer is not None:
        print("fleet-" + answer)
        sys.stdout.flush()
        return
    del sys.argv[1:]
    runpy.run_path(bundle, run_name="__main__")
