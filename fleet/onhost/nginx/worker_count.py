"""How many workers a master would start now, by its configuration and the host's processors.

With `worker_processes auto` nginx counts the processors once, when a master starts; a reload uses that number again. So
on a machine that has fewer or more of them by now, the next master has fewer or more workers than the running one
(docs/nginx-facts.md, section 7).
"""

from typing import FrozenSet, NamedTuple, Optional

from fleet.onhost.nginx.binary import read_elf
from fleet.onhost.nginx.command_line import read_command_line
from fleet.onhost.nginx.config_files import ConfigFiles, values_in
from fleet.onhost.observation import Master
from fleet.onhost.system.machine import Machine

AUTO = "auto"
ONLINE = "/sys/devices/system/cpu/online"
ALLOWED = "Cpus_allowed_list:"


class WorkerCount(NamedTuple):
    """The workers of a new master. `by_processors`: the configuration says `auto`."""

    number: int
    by_processors: bool = False


def worker_count(machine: Machine, master: Master, config: Optional[ConfigFiles], binary: str) -> Optional[WorkerCount]:
    """What this binary would start in the place of the master; `None` when the configuration does not tell for certain."""
    if config is None or not config.complete:
        return None
    given = set(values_in(read_command_line(master.argv).directives, "worker_processes"))
    given |= set(config.values("worker_processes"))
    if len(given) > 1:  # A text in a Lua block, say: nginx itself takes only one.
        return None
    value = given.pop() if given else "1"
    if value == AUTO:
        count = processors(machine, master.pid, binary)
        return WorkerCount(count, True) if count else None
    return WorkerCount(int(value)) if value.isdigit() else None


def processors(machine: Machine, pid: int, binary: str) -> Optional[int]:
    """The processors that the C library of this binary counts, started by this process.

    glibc counts those that are online, whichever of them the process may use; musl counts those that it may use. A container
    may show another list of them (lxcfs), so the list is read where the process sees it.
    """
    online = machine.read("/proc/%d/root%s" % (pid, ONLINE)) or machine.read(ONLINE)
    found = numbers(online or "")
    elf = read_elf(machine, binary)
    if found and elf is not None and "ld-musl" in (elf.loader or ""):
        lines = (machine.read("/proc/%d/status" % pid) or "").splitlines()
        allowed = [numbers(line[len(ALLOWED) :]) for line in lines if line.startswith(ALLOWED)]
        found = found & allowed[0] if allowed and allowed[0] else found
    return len(found) if found else None


def numbers(text: str) -> Optional[FrozenSet[int]]:
    """The numbers in a list of the kernel's, such as `0-3,6`."""
    found = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not first.isdigit() or not last.isdigit():
            return None
        found |= set(range(int(first), int(last) + 1))
    return frozenset(found)
