"""The lock of one instance: only one step script at a time acts on it. The kernel frees it however the holder ends.

A *stopped* holder (SIGSTOP, a debugger) would block everything for ever, also the way back. The holder is a fleet step
script, which may be killed at any moment; so the process that waits for the lock sends it KILL and looks at the host
again. The file names the holder by pid and start time, so that a process that was given its pid later is left alone.
"""

import fcntl
import os
import signal
from contextlib import contextmanager
from typing import Iterator, Optional, Tuple

from fleet.onhost.system.machine import Machine
from fleet.onhost.system.process import Gone

KILLED_SEEN_S = 2.0


class Busy(Exception):
    """Another step script is at work on this instance."""


@contextmanager
def locked(machine: Machine, path: str, wait_s: float) -> Iterator[None]:
    """Hold this lock. Raises `Busy` after `wait_s` seconds, naming the holder, and OSError."""
    until = machine.monotonic_s() + wait_s
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        while not _taken(file.fileno()):
            if _end_stopped(machine, path):
                until = max(until, machine.monotonic_s() + KILLED_SEEN_S)
            if machine.monotonic_s() >= until:
                raise Busy(_words(machine, path))
            machine.pause()
        _name_holder(machine, file.fileno())
        yield


def is_held(machine: Machine, path: str) -> bool:
    """Whether a process holds this lock, and was not stopped (`locked` ends a stopped one). Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # A shared lock, so that two that ask at the same time do not take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return not _is_stopped(machine, holder(machine, path))
    finally:
        os.close(descriptor)
    return False


def holder(machine: Machine, path: str) -> Optional[Tuple[int, int]]:
    """The (pid, start) in the lock's file, whether or not that process holds it still; `None` when the file is empty."""
    words = (machine.read(path) or "").split()
    if len(words) != 2 or not all(word.isdigit() for word in words):
        return None
    return int(words[0]), int(words[1])


def _words(machine: Machine, path: str) -> str:
    found = holder(machine, path)
    return "step script with pid %s" % (found[0] if found else "unknown")


def _end_stopped(machine: Machine, path: str) -> bool:
    """Whether the holder was stopped and has been sent KILL; the lock is free a moment later."""
    found = holder(machine, path)
    if found is None or not _is_stopped(machine, found):
        return False
    try:
        machine.signal(found[0], found[1], signal.SIGKILL)
    except Gone:
        return False
    machine.syslog("a stopped step script (pid %d) held %s and was ended" % (found[0], path))
    return True


def _is_stopped(machine: Machine, found: Optional[Tuple[int, int]]) -> bool:
    process = machine.process(found[0]) if found else None
    return found is not None and process is not None and process.start == found[1] and process.state in "Tt"


def _name_holder(machine: Machine, descriptor: int) -> None:
    """Write the holder into the lock's file. On a full disk the name is missing; the lock still holds."""
    own = machine.process(os.getpid())
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d %d\n" % (os.getpid(), own.start if own else 0), 0)
    except OSError:
        return


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
