"""Receives a bundle that is new to the host from stdin, and stores it.

The text of this file arrives as the first line of stdin, after that of `safe_folders`; it imports nothing else of fleet.
"""

import errno
import glob
import hashlib
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from io import BufferedIOBase
from typing import Optional, cast

from fleet.onhost.bootstrap.safe_folders import GIVEN_UP_S, failed, first_unsafe

BLOCK = 1 << 16
IDLE_S = 600
"""Seconds without input after which the script gives up: a cut link reports nothing. The value is high, because a laptop
with a rate limit serves its other hosts in the meantime."""
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


def made_unsafe(folder: str) -> Optional[str]:
    """The result of `first_unsafe` before and after the folder is made: below a sticky folder another user may be faster."""
    unsafe = first_unsafe(folder)
    if unsafe is None:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        unsafe = first_unsafe(folder)
    return unsafe


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
