"""The log files that a master has open. After a rotation it may still write to a file that was moved away.

USR1 sent by the pid file reaches only the new master; a held old master keeps writing to what is now `error.log.1`
(docs/nginx-facts.md, section 9). So fleet remembers the names at `launch` and compares them with what is open.
"""

import os
import stat
from typing import Collection, Optional, Set, Tuple

from fleet.onhost.nginx.error_log import STANDARD
from fleet.onhost.system.machine import Machine


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
