"""What the running release wrote to its error log: at its start, and lately. Only what is certainly its own.

A log holds lines of others, too: of another instance that shares it, of an `nginx -t`, of a bad release that was tried
and taken back. Lines of that one must not excuse it when it is tried again. So a line counts only if the running master
wrote it, the process that became that master at its first start, or a worker of it that lives or whose start that master
has logged.
"""

import re
from typing import Dict, Iterable, List, NamedTuple, Tuple

from fleet.onhost.nginx.error_log import bad_lines, mark
from fleet.onhost.nginx.log.kinds import TIME, parsed
from fleet.onhost.nginx.log.pieces import LOADING_S, Clock, Piece, pieces
from fleet.onhost.nginx.log_files import rotated
from fleet.onhost.observation import Master
from fleet.onhost.system.machine import Machine

# A first start is logged by the process that reads the configuration; the master is its child and leads a new session
# (docs/nginx-facts.md, section 9). Its pid is the one before the master's, or nearly so. An earlier nginx is farther away:
# after it a command had to replace the binary, and this process had to start.
STARTERS = 2
STARTED_S = 1.0
CHILD = "worker process "
OWN_CHILD = re.compile(r"^(?:(start) )?%s(\d+)" % CHILD)
NEVER = "9999"


class History(NamedTuple):
    """The lines of the running release that would count against a new one; `read` says in words what was read."""

    lines: Tuple[str, ...] = ()
    read: str = ""


class Life(NamedTuple):
    """The time in which a pid was the running master's or its worker's, as the log writes times."""

    since: str
    until: str = NEVER


def history(machine: Machine, old: Master) -> History:
    """What the master and its workers wrote, as far as it is read. Raises OSError."""
    if mark(machine, old.pid).path is None:
        return History()
    files = rotated(machine, old.pid, machine.began_s(old.start) - LOADING_S)
    clock = Clock(machine, files[0])
    read = pieces(machine, files, clock, _moments(machine, old))
    every = [line for piece in read for line in piece.lines]
    lives = _lives(machine, old, clock, every)
    own = [line for line in bad_lines(every, lives.keys()) if _is_within(line, lives)]
    return History(tuple(own), _in_words(read))


def _moments(machine: Machine, old: Master) -> List[float]:
    """When the master and the newest of its workers started, in seconds since 1970."""
    starts = {old.start, max([worker.start for worker in old.workers] or [old.start])}
    return [machine.began_s(start) for start in sorted(starts)]


def _lives(machine: Machine, old: Master, clock: Clock, lines: Iterable[str]) -> Dict[int, Life]:
    """The pids of the master and of its workers, past ones included, and when they were theirs."""
    own = " %d#" % old.pid
    born = clock.stamp(machine.began_s(old.start) - LOADING_S)
    lives: Dict[int, Life] = {}
    for line in lines:
        if own not in line or CHILD not in line:  # Far cheaper than to take each line apart.
            continue
        seen = parsed(line)
        child = OWN_CHILD.match(seen.text)
        if not child or seen.pid != old.pid or seen.at < born:
            continue
        pid = int(child.group(2))
        if child.group(1):
            lives[pid] = Life(seen.at)
        elif pid in lives:
            lives[pid] = lives[pid]._replace(until=seen.at)
    for worker in old.workers:
        lives[worker.pid] = Life(clock.stamp(machine.began_s(worker.start) - LOADING_S))
    if machine.leads_session(old.pid):
        until = clock.stamp(machine.began_s(old.start) + STARTED_S)
        for pid in range(max(2, old.pid - STARTERS), old.pid):
            lives.setdefault(pid, Life(born, until))
    lives[old.pid] = Life(born)
    return lives


def _is_within(line: str, lives: Dict[int, Life]) -> bool:
    seen = parsed(line)
    life = lives[seen.pid]
    return life.since <= seen.at <= life.until


def _in_words(read: List[Piece]) -> str:
    """How much was read, and of which times."""
    spans = ["%s to %s" % (piece.first[:TIME], piece.last[:TIME]) for piece in read if piece.first]
    size_bytes = sum(piece.size_bytes for piece in read)
    return "%d KiB of its log (%s)" % (size_bytes // 1024 + 1, ", ".join(spans) or "none of it a line of nginx")
