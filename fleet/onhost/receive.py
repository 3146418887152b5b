"""Takes the bundle from stdin on a host that has none yet, and answers with one word.

The controller sends this file's text as the first line of stdin, before there is anything of fleet on the host, so it
imports nothing else of fleet. What is stored under the final name is whole, has the right hash, and lies in folders
that only root can write: whoever could write there would be root at the next visit.
"""

import errno
import hashlib
import os
import signal
import stat
import sys
from io import BufferedIOBase
from typing import Optional, cast

BLOCK = 1 << 16
IDLE_S = 600
"""A link that was cut says nothing at all: who hears nothing for so long gives up. It is long, because a laptop that
keeps to a rate sends to its other hosts in the meantime."""


def receive(source: BufferedIOBase, state_dir: str, key: str, sha256: str, size_bytes: int) -> str:
    """`stored`, or `unsafe FOLDER`, `damaged`, `failed WHY`: then nothing is there under the final name."""
    os.umask(0o077)
    folder = os.path.join(state_dir, "bundles", key)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        unsafe = first_unsafe(state_dir, os.path.join(state_dir, "bundles"), folder)
        if unsafe is not None:
            return "unsafe " + unsafe
        return store(source, os.path.join(folder, "fleet.pyz"), sha256, size_bytes)
    except OSError as error:
        return "failed %s: %s" % (error.filename or folder, error.strerror or error)


def first_unsafe(*folders: str) -> Optional[str]:
    """The first folder that somebody else than we could write to, or put another in place of."""
    for folder in folders:
        seen = os.stat(folder)
        if seen.st_uid != os.geteuid() or seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return folder
    above = os.path.realpath(folders[0])
    while above != "/":
        above = os.path.dirname(above)
        seen = os.stat(above)
        # A sticky folder (/tmp) lets nobody rename what is another's.
        if seen.st_uid not in (0, os.geteuid()) or seen.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            return above
    return None


def store(source: BufferedIOBase, path: str, sha256: str, size_bytes: int) -> str:
    """`stored` when the bytes are at `path`, on the disk; `damaged` when they are not those that were meant."""
    part = "%s.part.%d" % (path, os.getpid())
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
