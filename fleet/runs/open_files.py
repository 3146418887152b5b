"""How many connections this process may have open: `ulimit -n` is raised as far as the system lets it; else fewer at a time.

A run that meets the limit midway would take hosts for unreachable that are well. It is not refused: a rollback must run.
"""

import resource
from contextlib import suppress
from typing import NamedTuple

OWN = 64
"""For the journal, the log, the terminal, an agent, and what the process was started with."""
A_VISIT = 6
"""For a visit: its connection (a socket; a ProxyCommand's stderr, too), the dial, an agent, a child process's pipes."""
A_KEPT = 2
"""For a connection that is kept open: a socket, and a ProxyCommand's stderr."""


class Room(NamedTuple):
    """How many visits may run at a time, and how many connections may be kept beside them. `note`: why fewer than wanted."""

    parallel: int
    keep_open: int
    note: str = ""


def make_room(hosts: int, parallel: int, keep_open: int) -> Room:
    """The room for a run with so many hosts. The limit of this process, and of the programs that it starts, is raised."""
    wanted = Room(max(1, min(hosts, parallel)), min(hosts, keep_open))
    return room(wanted, raised_limit(files_of(wanted)))


def files_of(wanted: Room) -> int:
    """How many open files that may take."""
    return OWN + A_VISIT * wanted.parallel + A_KEPT * wanted.keep_open


def raised_limit(needed: int) -> int:
    """The limit of open files, after it was raised to `needed` or as near as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    # macOS has a limit of its own below an unlimited hard one (kern.maxfilesperproc).
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def room(wanted: Room, limit: int) -> Room:
    """What of `wanted` fits into `limit` open files: fewer connections are kept first, then fewer visits run at a time."""
    needed = files_of(wanted)
    if limit >= needed:
        return wanted
    parallel = max(1, min(wanted.parallel, (limit - OWN) // A_VISIT))
    keep_open = max(0, min(wanted.keep_open, (limit - OWN - A_VISIT * parallel) // A_KEPT))
    return Room(parallel, keep_open, _note(wanted, parallel, keep_open, limit, needed))


def _note(wanted: Room, parallel: int, keep_open: int, limit: int, needed: int) -> str:
    return (
        f"Warning: This process may open {limit} files, which is enough for {parallel} visits at a time (of "
        f"{wanted.parallel}) and {keep_open} kept connections (of {wanted.keep_open}): the run takes longer. "
        f"To allow more, run `ulimit -n {needed}` in this shell before the command; if the shell refuses, raise "
        f"nofile for your login in /etc/security/limits.conf."
    )
