"""How much memory processes use, and how much there is for more."""

import os
import re
from typing import List, NamedTuple

from fleet.onhost.system.control_groups import memory_groups
from fleet.onhost.system.files import Files

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Room(NamedTuple):
    """Memory that can be had: where, how many bytes, and which limit says so."""

    where: str
    free_bytes: int
    limit: str


def memory_rooms(machine: Files, pid: int, whose: str) -> List[Room]:
    """The host's free memory, and what each control group of this process leaves; `whose` names the process."""
    available = re.search(r"^MemAvailable:\s+(\d+) kB", machine.read("/proc/meminfo") or "", re.MULTILINE)
    rooms = [Room("the host", int(available.group(1)) << 10, "MemAvailable in /proc/meminfo")] if available else []
    for group in memory_groups(machine, pid):
        rooms.append(Room("the control group of %s" % whose, group.limit - group.used, group.file))
    return rooms


def resident_bytes(machine: Files, pid: int) -> int:
    """The proportional memory of one process (PSS); on an old kernel all resident memory."""
    share = re.search(r"^Pss:\s+(\d+) kB", machine.read("/proc/%d/smaps_rollup" % pid) or "", re.MULTILINE)
    if share:
        return int(share.group(1)) << 10
    pages = (machine.read("/proc/%d/statm" % pid) or "").split()
    return int(pages[1]) * PAGE_BYTES if len(pages) > 1 else 0
