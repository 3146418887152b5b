"""What a child of the running master inherits from it: identity, limits, environment. Read from /proc.

nginx moves its environment away to make room for its title, so /proc/PID/environ shows the title. But the kernel put the
array of pointers at the start of the stack (field 28 of /proc/PID/stat: argc, argv[], 0, envp[], 0), and nginx lets
these point to its copies. So the process's memory gives the environment that it was started with.
"""

import os
import re
import resource
import signal
import struct
from typing import BinaryIO, Dict, List, NamedTuple, Optional, Tuple

from fleet.onhost.nginx.command_line import grouped
from fleet.onhost.observation import Master
from fleet.onhost.rehearsal import kernel
from fleet.onhost.system.machine import Machine

# The names in /proc/PID/limits, in the order of their numbers (fs/proc/base.c: lnames).
LIMITS = (
    "cpu time",
    "file size",
    "data size",
    "stack size",
    "core file size",
    "resident set",
    "processes",
    "open files",
    "locked memory",
    "address space",
    "file locks",
    "pending signals",
    "msgqueue size",
    "nice priority",
    "realtime priority",
    "realtime timeout",
)
UNLIMITED = -1
HANDED_OVER = ("NGINX", "ANGIE")  # The variable by which a master hands its sockets to the next one.
MOST_VARIABLES, MOST_VALUE_BYTES = 10000, 1 << 17
PAGE_BYTES = 4096
KEPT_SIGNALS = (9, 19, 32, 33)  # KILL, STOP, and two of the C library's own.


class Inherited(NamedTuple):
    """`uids` and `gids` are real, effective and saved. Masks of capabilities: inheritable, permitted, effective, bounding,
    ambient. `limits` are (soft, hard) by number.
    """

    argv: Tuple[str, ...]
    environment: Dict[str, str]
    cwd: str
    umask: int
    uids: Tuple[int, ...]
    gids: Tuple[int, ...]
    groups: Tuple[int, ...]
    capabilities: Tuple[int, ...]
    no_new_privileges: bool
    limits: Dict[int, Tuple[int, int]]
    nice: int
    processors: Tuple[int, ...]
    blocked: int


def inherited(machine: Machine, master: Master) -> Inherited:
    """What a child of this master inherits. Raises OSError, ValueError, LookupError if /proc does not show it."""
    pid = master.pid
    status = dict(re.findall(r"^(\w+):\t(.*)$", machine.read("/proc/%d/status" % pid) or "", re.MULTILINE))
    numbers = {name: tuple(int(one) for one in status[name].split()) for name in ("Uid", "Gid", "Groups")}
    return Inherited(
        argv=grouped(master.argv),
        environment=environment(machine, pid),
        cwd=_as_it_sees(pid, "cwd"),
        umask=int(status.get("Umask", "0"), 8),  # Linux 4.7; a daemon of nginx has 0.
        uids=numbers["Uid"][:3],
        gids=numbers["Gid"][:3],
        groups=numbers["Groups"],
        capabilities=tuple(int(status.get("Cap" + one, "0"), 16) for one in ("Inh", "Prm", "Eff", "Bnd", "Amb")),
        no_new_privileges=status.get("NoNewPrivs", "0").strip() == "1",
        limits=_limits(machine.read("/proc/%d/limits" % pid) or ""),
        nice=os.getpriority(os.PRIO_PROCESS, pid),
        processors=tuple(sorted(os.sched_getaffinity(pid))),
        blocked=int(status["SigBlk"], 16),
    )


def _as_it_sees(pid: int, name: str) -> str:
    """Where a link in /proc/PID leads, from the root of that process. `/` where that can't be seen."""
    root, path = (os.readlink("/proc/%d/%s" % (pid, one)) for one in ("root", name))
    return path[len(root.rstrip("/")) :] or "/" if path.startswith(root) else "/"


def _limits(text: str) -> Dict[int, Tuple[int, int]]:
    """From the file: prlimit(2) of another user's process needs CAP_SYS_RESOURCE."""
    found = {}
    for name, soft, hard in re.findall(r"^Max (.+?) {2,}(\S+) +(\S+)", text, re.MULTILINE):
        if name in LIMITS:
            values = [UNLIMITED if one == "unlimited" else int(one) for one in (soft, hard)]
            found[LIMITS.index(name)] = (values[0], values[1])
    return found


def environment(machine: Machine, pid: int) -> Dict[str, str]:
    """The environment of an nginx. Raises OSError, LookupError."""
    process = machine.process(pid)
    if process is None:
        raise LookupError("process %d is gone" % pid)
    wide = machine.read_from("/proc/%d/exe" % pid, 0, 5)[4] == 2
    found: Dict[str, str] = {}
    with open("/proc/%d/mem" % pid, "rb", buffering=0) as memory:
        size = 8 if wide else 4
        at = process.stack + size * (_word(memory, process.stack, size) + 2)
        for number in range(MOST_VARIABLES):
            pointer = _word(memory, at + number * size, size)
            if not pointer:
                break
            name, _, value = _text(memory, pointer).partition("=")
            if name not in HANDED_OVER:
                found[name] = value
    return found


def _word(memory: BinaryIO, address: int, size: int) -> int:
    memory.seek(address)
    return int(struct.unpack("=Q" if size == 8 else "=I", memory.read(size))[0])


def _text(memory: BinaryIO, address: int) -> str:
    """The string at this address. It is read page by page: the page after it may not exist."""
    memory.seek(address)
    data = b""
    while b"\0" not in data and len(data) < MOST_VALUE_BYTES:
        more = memory.read(PAGE_BYTES - (address + len(data)) % PAGE_BYTES)
        if not more:
            break
        data += more
    return os.fsdecode(data.split(b"\0")[0])


def become(who: Inherited) -> List[str]:
    """Turn this process into a child of that master, as far as execve keeps it. Returns what could not be set, in words."""
    os.setpriority(os.PRIO_PROCESS, 0, max(who.nice, 0))
    lacking = _limit(who)
    if not _entered(who.cwd):
        lacking.append("the working folder")
    os.umask(who.umask)
    inheritable, permitted, effective, bounding, ambient = who.capabilities
    kernel.limit_capabilities(bounding)
    os.setgroups(who.groups)
    os.setresgid(*who.gids)
    kernel.keep_capabilities()
    os.setresuid(*who.uids)
    kernel.set_capabilities(effective, permitted, inheritable, ambient)
    if who.no_new_privileges:
        kernel.forbid_new_privileges()
    for number in range(1, signal.NSIG):
        if number not in KEPT_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
    blocked = [number for number in range(1, signal.NSIG) if who.blocked >> number - 1 & 1]
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return lacking


def _entered(folder: str) -> bool:
    """Whether this is the working folder now; a folder that was removed can't be entered, and `/` takes its place."""
    try:
        os.chdir(folder)
        return True
    except OSError:
        os.chdir("/")
        return False


def _limit(who: Inherited) -> List[str]:
    """Set the limits and the processors. A core file is limited to one byte: then no handler of the host gets one either."""
    lacking = []
    limits = dict(who.limits)
    hard = limits.get(resource.RLIMIT_CORE, (0, UNLIMITED))[1]
    limits[resource.RLIMIT_CORE] = (1, hard if hard else 1)
    for number, pair in sorted(limits.items()):
        if _limit_of(number) == pair:
            continue
        try:
            resource.setrlimit(number, pair)
        except (OSError, ValueError):
            lacking.append("the limit of %s" % LIMITS[number])
    try:
        os.sched_setaffinity(0, who.processors)
    except OSError:
        lacking.append("the processors")
    return lacking


def _limit_of(number: int) -> Optional[Tuple[int, int]]:
    try:
        return resource.getrlimit(number)
    except (OSError, ValueError):
        return None
