"""Writes new host keys to known_hosts: one at a time for `accept-new`, many at once for `fleet trust`.

Other programs write to that file, too (ssh appends, ssh-keygen replaces it). So fleet appends with one write, as ssh
does; a new file in its place would lose lines that another program has just appended. Processes of fleet lock the file,
and judge each key again under the lock, so that a key which two visits meet at once is stored once, and never a second,
different key.
"""

import fcntl
import os
import shlex
import stat
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fleet.ssh.hostkeys.acceptance import UNKNOWN, PresentedKey, known_host_for
from fleet.ssh.hostkeys.known_hosts_file import hashed
from fleet.ssh.link_errors import LinkError
from fleet.ssh.openssh_config import Settings

LOCK_S = 10.0
QUEUE_S = 30.0
"""For the keys of this process's other hosts: finding a new name among 5,000 hashed ones takes 30 ms."""
POLL_S = 0.02
SALT_BYTES = 20
NOT_IN_A_NAME = frozenset(" \t\r\n\v\f\0,*?!")
NOT_FIRST = ("#", "@", "|")
NewKey = tuple[Settings, PresentedKey]
UNWRITABLE = "known_hosts_unwritable"
_IN_THIS_PROCESS = threading.Lock()


def store_of(settings: Settings) -> str | None:
    """The file for a new key of this host: the first writable one of the user's known_hosts files.

    `None` when there is none: ssh_config says `none` or /dev/null, so that no key is stored.
    """
    for file in settings.user_known_hosts:
        try:
            seen = os.stat(file)
        except OSError:
            if _can_be_made(Path(file)):
                return file
            continue
        if not stat.S_ISREG(seen.st_mode):
            return None
        if os.access(file, os.W_OK):
            return file
    return None


def add(new: Sequence[NewKey], file: str, now: Callable[[], float] = time.time) -> int:
    """Adds the keys that are not known yet to `file`, and returns how many these were.

    Raises `LinkError`, and adds none, when a name has another key by now, two keys differ under one name, or the file can't
    be written.
    """
    try:
        Path(file).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(file) as handle:
            missing = [each for each in _once(new) if _is_new(*each, now())]
            _refuse_ambiguous(missing)
            _append(handle, "".join(_line(*each) for each in missing).encode("utf-8"))
    except OSError as error:
        raise _unwritable(file, error.strerror or str(error)) from error
    return len(missing)


def _once(new: Sequence[NewKey]) -> list[NewKey]:
    """Each key of each name once."""
    return list({(settings.key_name, key.blob): (settings, key) for settings, key in new}.values())


def _refuse_ambiguous(new: Sequence[NewKey]) -> None:
    for name, count in Counter(settings.key_name for settings, _ in new).items():
        if count > 1:
            raise LinkError(
                "host_key_ambiguous",
                f"Hosts present different keys under the same name {name}.",
                "Give each of these hosts its own HostKeyAlias in ssh_config.",
            )


def accept(settings: Settings, key: PresentedKey) -> str:
    """Stores a new key if possible; returns the note for the operator. Raises `LinkError` when the host has another key."""
    text = f"The host key of {settings.key_name} was not known and is accepted: {key.description}"
    file = store_of(settings)
    if file is None:
        return f"{text}. It is not stored: {_no_store(settings)}."
    try:
        add([(settings, key)], file)
    except LinkError as failure:
        if failure.reason != UNWRITABLE:
            raise
        return f"{text}. It is NOT stored: {failure.message}"
    return f"{text}. It is stored in {file}."


def _no_store(settings: Settings) -> str:
    named = ", ".join(settings.user_known_hosts)
    return f"{named} can't store it" if named else "ssh_config names no file for it"


def _is_new(settings: Settings, key: PresentedKey, at_s: float) -> bool:
    """Whether the key is still unknown. Raises `LinkError` when the host has another key."""
    failure = known_host_for(settings).rejection(key, at_s)
    if failure is not None and failure.reason != UNKNOWN:
        raise failure
    return failure is not None


def _line(settings: Settings, key: PresentedKey) -> str:
    name = settings.key_name
    if not name or NOT_IN_A_NAME & set(name) or name.startswith(NOT_FIRST):
        raise LinkError(
            "known_hosts_unwritable",
            f"{name!r} can't be a host's name in a known_hosts file.",
            "Correct HostKeyAlias in ssh_config, or ansible_host in the inventory.",
        )
    shown_name = hashed(name, os.urandom(SALT_BYTES)) if settings.hash_known_hosts else name
    return f"{shown_name} {key.type} {b64encode(key.blob).decode('ascii')}\n"


def _can_be_made(path: Path) -> bool:
    """Whether the file does not exist and can be created, with its folder if needed."""
    if os.path.lexists(path) and not path.is_symlink():
        return False
    there = next((folder for folder in path.parents if folder.exists()), None)
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)


@contextmanager
def _locked(file: str) -> Iterator[int]:
    """The file, created if needed, open for reading and appending, and locked. Raises `OSError`, `LinkError`."""
    ends_at = time.monotonic() + LOCK_S
    if not _IN_THIS_PROCESS.acquire(timeout=QUEUE_S):
        raise _unwritable(file, f"it took {QUEUE_S:g} s to write other hosts' keys", "Run fleet trust.")
    handle = -1
    try:
        handle = _opened(file)
        while not _has_lock(handle) or not _is_still(file, handle):
            if time.monotonic() >= ends_at:
                why = f"another program holds its lock for {LOCK_S:g} s already"
                raise _unwritable(file, why, f"See which program: fuser {shlex.quote(file)}")
            time.sleep(POLL_S)
            os.close(handle)
            handle = -1
            handle = _opened(file)
        yield handle
    finally:
        if handle >= 0:
            os.close(handle)
        _IN_THIS_PROCESS.release()


def _opened(file: str) -> int:
    return os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _has_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(file: str, handle: int) -> bool:
    """Whether the path still leads to the open file: ssh-keygen replaces the file."""
    try:
        return os.path.samestat(os.stat(file), os.fstat(handle))
    except FileNotFoundError:
        return False


def _append(handle: int, lines: bytes) -> None:
    """Appends the lines, after a whole line, and syncs them to disk. Raises OSError, and then none was appended."""
    if not lines:
        return
    before_bytes = os.fstat(handle).st_size
    if before_bytes and os.pread(handle, 1, before_bytes - 1) != b"\n":
        lines = b"\n" + lines
    written_bytes = os.write(handle, lines)
    if written_bytes < len(lines):
        if os.fstat(handle).st_size == before_bytes + written_bytes:
            os.ftruncate(handle, before_bytes)
        raise OSError("the disk is full")
    os.fsync(handle)


def _unwritable(
    file: str, why: str, remedy: str = "See that its mode and owner allow it (ls -l), and that its disk has room (df)."
) -> LinkError:
    return LinkError("known_hosts_unwritable", f"{file} can't be written: {why}.", remedy)
