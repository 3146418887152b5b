"""The limits that control groups set for a process, version 1 and 2 (cgroups(7))."""

import re
from typing import Iterator, List, NamedTuple, Optional, Tuple

from fleet.onhost.system.files import Files
from fleet.onhost.system.mounts import read_mounts

NO_LIMIT = 1 << 60


class Group(NamedTuple):
    """One level of a control group: usage and limit, and the file that sets the limit."""

    used: int
    limit: int
    file: str


def memory_groups(machine: Files, pid: int) -> List[Group]:
    """The memory limits above this process. Page cache that the kernel would reclaim does not count as used."""
    found = []
    for folder, version in _folders(machine, pid, "memory"):
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        key = "inactive_file" if version == 2 else "total_inactive_file"
        group = _group(machine, folder, names[0], names[1])
        if group is not None:
            cache = re.search(r"^%s (\d+)$" % key, machine.read(folder + "/memory.stat") or "", re.MULTILINE)
            found.append(group._replace(used=group.used - (int(cache.group(1)) if cache else 0)))
    return found


def pid_groups(machine: Files, pid: int) -> List[Group]:
    """The limits on the number of processes above this process."""
    groups = (_group(machine, folder, "pids.max", "pids.current") for folder, _ in _folders(machine, pid, "pids"))
    return [group for group in groups if group is not None]


def _folders(machine: Files, pid: int, controller: str) -> Iterator[Tuple[str, int]]:
    """The folders of the process's control group and of its parents, as (folder, cgroup version)."""
    for line in (machine.read("/proc/%d/cgroup" % pid) or "").splitlines():
        number, names, path = (line.split(":", 2) + ["", ""])[:3]
        version = 2 if number == "0" and not names else 1
        if version == 1 and controller not in names.split(","):
            continue
        for one in read_mounts(machine.read("/proc/self/mountinfo") or ""):
            kind = "cgroup2" if version == 2 else "cgroup"
            if one.kind == kind and (version == 2 or controller in one.options):
                yield from ((folder, version) for folder in _upwards(one.point, _below(path, one.root)))


def _below(path: str, root: str) -> str:
    """The path inside a mount that shows only the part below `root`."""
    if root != "/" and (path == root or path.startswith(root + "/")):
        return path[len(root) :]
    return path


def _upwards(mount: str, path: str) -> Iterator[str]:
    parts = [part for part in path.split("/") if part and part != ".."]
    for count in range(len(parts), -1, -1):
        yield "/".join([mount] + parts[:count])


def _group(machine: Files, folder: str, limit_name: str, used_name: str) -> Optional[Group]:
    limit = (machine.read("%s/%s" % (folder, limit_name)) or "").strip()
    used = (machine.read("%s/%s" % (folder, used_name)) or "").strip()
    if not limit.isdigit() or not used.isdigit() or int(limit) > NO_LIMIT:
        return None
    return Group(int(used), int(limit), "%s/%s" % (folder, limit_name))
