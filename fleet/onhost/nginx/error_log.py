"""The error log as evidence: what the new master's generation wrote since a mark.

nginx makes its error log its own stderr, so file descriptor 2 of a master leads to the log that it writes now, whatever
the configuration on the disk says. nginx also has its log open under another number; a file open only as stderr belongs
to the process that started nginx. A log that is no readable file (syslog, stderr, off) is missing evidence, which fleet
reports, never a failure. Nothing here depends on lines of level `notice` (docs/nginx-facts.md, section 9).
"""

import os
import re
import stat
from typing import Collection, List, NamedTuple, Optional, Tuple

from fleet.onhost.system.machine import Machine

LINE = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(\w+)\] (\d+)#\d+: (.*)$")
STAMPED = re.compile(rb"(?:^|\n)(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[")
GRAVE = ("emerg", "alert", "crit")
CRASHED = "exited on signal"
ENDED = "exited with fatal code"
EXIT = re.compile(r"[\w ]+ process \d+ (?:%s|%s) \d+" % (CRASHED, ENDED))  # As ngx_process_get_status writes it.
MARKS = tuple("[%s]" % level for level in GRAVE) + (CRASHED, ENDED)
"""One of these is in each line that counts against a release."""
NOT_RENAMED = "failed before executing new binary process"
NOT_FORKED = 'fork() failed while spawning "new binary process"'
POISON = (NOT_RENAMED, NOT_FORKED)
MOST_BYTES = 4 << 20
STDERR = "/proc/%d/fd/2"
STANDARD = ("0", "1", "2")


class Mark(NamedTuple):
    """A position in a log: a file, and an offset in bytes."""

    path: Optional[str]
    inode: int
    offset: int


NOWHERE = Mark(None, 0, 0)


def mark(machine: Machine, pid: int) -> Mark:
    """The current end of the log that this master writes; `NOWHERE` when it writes none that can be read."""
    path = STDERR % pid
    seen = machine.stat(path)
    if seen is None or not _is_log(machine, pid, seen):
        return NOWHERE
    return Mark(machine.real_path(path), seen.st_ino, seen.st_size)


def _is_log(machine: Machine, pid: int, seen: os.stat_result) -> bool:
    folder = "/proc/%d/fd" % pid
    opened = [machine.stat("%s/%s" % (folder, name)) for name in machine.names(folder) if name not in STANDARD]
    same = [one for one in opened if one is not None and (one.st_dev, one.st_ino) == (seen.st_dev, seen.st_ino)]
    return stat.S_ISREG(seen.st_mode) and bool(same)


def lines_since(machine: Machine, start: Mark, pids: Collection[int]) -> Optional[List[str]]:
    """The lines written since the mark, also in a log rotated since; `None` when the log can no longer be read."""
    if start.path is None:
        return None
    read: List[str] = []
    inodes = set()
    for path in [STDERR % pid for pid in pids] + [start.path]:
        seen = machine.stat(path)
        if seen is None or not stat.S_ISREG(seen.st_mode) or seen.st_ino in inodes:
            continue
        inodes.add(seen.st_ino)
        offset = start.offset if seen.st_ino == start.inode and seen.st_size >= start.offset else 0
        offset = max(offset, seen.st_size - MOST_BYTES)
        read += machine.read_from(path, offset, MOST_BYTES).decode("utf-8", "replace").splitlines()
    return read if inodes else None


def bad_lines(lines: Collection[str], pids: Collection[int]) -> Tuple[str, ...]:
    """The lines by these processes that count against the new release.

    `crit` with `client:` concerns one request: a healthy host with a missing upstream file writes such lines, too.
    """
    return tuple(line for line in lines if _is_bad(line, pids))


def rejection(lines: Collection[str], pid: int) -> Optional[str]:
    """What the process first wrote at `emerg`, by which nginx rejects a configuration; `None` when it wrote nothing such."""
    found = [one for one in (LINE.match(line) for line in lines) if one and int(one.group(2)) == pid]
    return next((one.group(3) for one in found if one.group(1) == "emerg"), None)


def _is_bad(line: str, pids: Collection[int]) -> bool:
    if not any(sign in line for sign in MARKS):  # Far cheaper than to take each line of a long log apart.
        return False
    found = LINE.match(line)
    return found is not None and int(found.group(2)) in pids and speaks_against(line)


def speaks_against(line: str) -> bool:
    """Whether the line counts against the release whose processes wrote it, if the running release does not write it, too."""
    found = LINE.match(line)
    if found is None:
        return False
    level, text = found.group(1), found.group(3)
    return bool(EXIT.match(text)) or (level in GRAVE and "client:" not in text)
