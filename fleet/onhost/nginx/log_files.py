"""The log files of a master: those that it has open, and those that were rotated away.

USR1 sent by the pid file reaches only the new master; a held old master keeps writing to what is now `error.log.1`
(docs/nginx-facts.md, section 9). So fleet remembers the names at `launch` and compares them with what is open.
"""

import os
import re
import stat
from typing import Collection, List, NamedTuple, Optional, Pattern, Set, Tuple

from fleet.onhost.nginx.error_log import STANDARD, STDERR
from fleet.onhost.system.machine import Machine

NAME = re.compile(r"(?P<stem>.+?)(?P<suffix>\.\w*[A-Za-z]\w*)?(?:[.-][\d.-]+)?(?: \(deleted\))?$")
ROTATION = r"(?:[.-][\d.-]+)?"
PACKED = ".gz"


class LogFile(NamedTuple):
    """A file of a log: its size, and when it was last written, in seconds since 1970."""

    path: str
    size_bytes: int
    written_s: float

    @property
    def packed(self) -> bool:
        return self.path.endswith(PACKED)


def written_by(machine: Machine, pid: int) -> Tuple[str, ...]:
    """The regular files that the process has open for appending, by name: nginx's logs.

    The standard descriptors are left out: nginx opens its logs under other numbers as well.
    """
    found = set()
    for number in machine.names("/proc/%d/fd" % pid):
        if number in STANDARD:
            continue
        path = machine.real_path("/proc/%d/fd/%s" % (pid, number))
        if _identity(machine, path) is not None and _appends(machine, pid, number):
            found.add(path)
    return tuple(sorted(found))


def moved_away(machine: Machine, names: Collection[str], pids: Collection[int]) -> Tuple[str, ...]:
    """The names whose file is no longer the one that these processes have open: it was renamed or removed.

    A process that has ended has nothing open and is ignored.
    """
    opened = [one for one in (_open(machine, pid) for pid in pids) if one]
    return tuple(name for name in names if any(_identity(machine, name) not in one for one in opened))


def _open(machine: Machine, pid: int) -> Set[Tuple[int, int]]:
    folder = "/proc/%d/fd/" % pid
    identities = [_identity(machine, folder + number) for number in machine.names(folder)]
    return {one for one in identities if one is not None}


def _identity(machine: Machine, path: str) -> Optional[Tuple[int, int]]:
    seen = machine.stat(path)
    return (seen.st_dev, seen.st_ino) if seen is not None and stat.S_ISREG(seen.st_mode) else None


def _appends(machine: Machine, pid: int, number: str) -> bool:
    for line in (machine.read("/proc/%d/fdinfo/%s" % (pid, number)) or "").splitlines():
        if line.startswith("flags:"):
            return bool(int(line.split()[1], 8) & os.O_APPEND)
    return False


def rotated(machine: Machine, pid: int, since_s: float) -> List[LogFile]:
    """The error log that this master writes, and the files into which it was rotated and that were written since then, the
    newest first. Raises FileNotFoundError.

    Packed files keep the time of what they hold. The names are those of logrotate: `error.log.1`, `error.log.2.gz`,
    `error.log-20261123`, `error-20261123.log`.
    """
    current = STDERR % pid
    seen = machine.stat(current)
    if seen is None:
        raise FileNotFoundError(current)
    folder, name = os.path.split(machine.real_path(current))
    folder, own = "/proc/%d/root%s" % (pid, folder), _names_of(name)
    older = []
    for other in machine.names(folder):
        path = folder + "/" + other
        found = machine.stat(path) if own.match(other) else None
        if found is None or not stat.S_ISREG(found.st_mode) or found.st_mtime < since_s:
            continue
        if (found.st_dev, found.st_ino) != (seen.st_dev, seen.st_ino):
            older.append(LogFile(path, found.st_size, found.st_mtime))
    older.sort(key=lambda one: one.written_s, reverse=True)
    return [LogFile(current, seen.st_size, seen.st_mtime)] + older


def _names_of(name: str) -> Pattern[str]:
    """The names that a log of this name may have after a rotation; the name itself may be such a one."""
    found = NAME.match(name)
    stem, suffix = (found.group("stem"), found.group("suffix") or "") if found else (name, "")
    return re.compile("%s%s%s%s(?:%s)?$" % (re.escape(stem), ROTATION, re.escape(suffix), ROTATION, re.escape(PACKED)))
