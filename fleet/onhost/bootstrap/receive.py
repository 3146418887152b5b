"""What the controller sends first at every visit: takes the bundle from stdin on a host that has none yet, or starts the
one that is there; neither before every folder on the way to it was found to be root's alone.

Whoever could write to one of them would be root at the next visit, so nothing that lies there is run to find that out:
this file's text is the first line of stdin, and imports nothing else of fleet. What is stored under the final name is
whole and has the right hash. A folder that only root can write to when it is looked at, nobody else can change later.
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
"""A link that was cut says nothing at all: who hears nothing for so long gives up. It is long, because a laptop that
keeps to a rate sends to its other hosts in the meantime."""
MOST_LINKS = 40
"""As many symbolic links on one way as Linux itself follows."""
GIVEN_UP_S = 3600.0
"""What nobody has written to for so long was left by something that died; what is younger may be under way."""
KEPT = ("releases", "instances")
PART, UNPACKING = ".part.", ".lib."  # what `store` and `bootstrap.unpack` write to first


def receive(source: BufferedIOBase, state_dir: str, key: str, sha256: str, size_bytes: int) -> str:
    """`stored`, or `unsafe PLACE`, `damaged`, `failed WHY`: then nothing is there under the final name."""
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
    """The answer when the system refused something."""
    return "failed %s: %s" % (error.filename or folder, error.strerror or error)


def made_unsafe(folder: str) -> Optional[str]:
    """What `first_unsafe` finds, before the folder is made and after: below a sticky one somebody may have been quicker."""
    unsafe = first_unsafe(folder)
    if unsafe is None:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        unsafe = first_unsafe(folder)
    return unsafe


def first_unsafe(folder: str) -> Optional[str]:
    """The first place on the way to a bundle's folder, or in it, that is not root's alone: somebody else could write to
    it, or put another in its place. What is not there yet is nobody's. Raises OSError."""
    state_dir = os.path.dirname(os.path.dirname(folder))
    roots = [folder] + [os.path.join(state_dir, name) for name in KEPT]
    for path, seen in chain.from_iterable(map(on_the_way, roots)):
        # A link's mode means nothing. A sticky folder (/tmp) lets nobody rename what is another's.
        harmless = stat.S_ISLNK(seen.st_mode) or seen.st_mode & stat.S_ISVTX
        if belongs_to_another(seen) or (is_open(path, seen) and not harmless):
            return path
    for path, seen in own_places(folder):
        if belongs_to_another(seen) or is_open(path, seen):
            return path
    return None


def belongs_to_another(seen: os.stat_result) -> bool:
    """Whether the owner is somebody else than root, or than we are (tests)."""
    return seen.st_uid not in (0, os.geteuid())


def is_open(path: str, seen: os.stat_result) -> bool:
    """Whether others than the owner may write to it. Root's own group may, unless an access control list lets somebody
    else in: the mode says of the group then what is true of him."""
    if seen.st_mode & stat.S_IWOTH:
        return True
    return bool(seen.st_mode & stat.S_IWGRP) and (seen.st_gid != 0 or has_access_list(path))


def has_access_list(path: str) -> bool:
    """Whether there may be an access control list: a Python built with musl can't tell."""
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
    """Every folder and every symbolic link that the kernel passes on its way to `path`, as far as they exist.

    Raises OSError, also for links that lead nowhere but to each other.
    """
    here, links = "/", 0
    left = path.split("/")[::-1]
    yield here, os.lstat(here)
    while left:
        name = left.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)  # it was passed before
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
    """The state folder, its bundles, this bundle's folder and all that is in it, and the folders of all else that fleet
    keeps there. A link beside the bundle counts as open to all, as its mode says: there should be none."""
    bundles = os.path.dirname(folder)
    state_dir = os.path.dirname(bundles)
    kept = [place for name in KEPT for place, _, _ in os.walk(os.path.join(state_dir, name))]
    for path in [state_dir, bundles, folder] + kept:
        with suppress(FileNotFoundError):
            yield path, os.stat(path)
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(place, name)
            with suppress(FileNotFoundError):  # another visit unpacks the bundle, or compiles what is in it
                yield path, os.lstat(path)


def forget_given_up(bundles: str) -> None:
    """No part of a bundle is left, sent or unpacked, that nobody has written to for so long, where it can be removed."""
    anywhere = os.path.join(glob.escape(bundles), "*")
    for pattern in ("fleet.pyz" + PART + "*", UNPACKING + "*"):
        for path in glob.glob(os.path.join(anywhere, pattern)):
            with suppress(OSError):  # another visit may have been quicker
                if time.time() - os.lstat(path).st_mtime > GIVEN_UP_S:
                    _remove(path)


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def store(source: BufferedIOBase, path: str, sha256: str, size_bytes: int) -> str:
    """`stored` when the bytes are at `path`, on the disk; `damaged` when they are not those that were meant."""
    part = "%s%s%d" % (path, PART, os.getpid())
    digest = hashlib.sha256()
    try:
        with open(part, "wb") as sink:
            left = size_bytes
            while left:
                signal.alarm(IDLE_S)
                block = source.read1(min(left, BLOCK))  # what there is: a full block may be long in coming
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
    """What an alarm does: the read that waits fails."""
    raise OSError(errno.ETIMEDOUT, "nothing more came for %d s" % IDLE_S)


def main(state_dir: str, key: str, sha256: str, size_bytes: int) -> None:
    """The answer is printed on a line of its own."""
    signal.signal(signal.SIGALRM, too_late)
    print("fleet-" + receive(cast(BufferedIOBase, sys.stdin.buffer), state_dir, key, sha256, size_bytes))
    sys.stdout.flush()


def start(bundle: str) -> None:
    """The bundle runs as if Python had been given it, if it is root's alone; else `unsafe PLACE` or `failed WHY` is said."""
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
