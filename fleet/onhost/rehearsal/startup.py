"""nginx in the rehearsal: how it is started, and how it is seen to come up. The caller is pid 1 of its PID namespace."""

import os
import re
import signal
import stat
from typing import Dict, FrozenSet, NamedTuple, Optional, Tuple

from fleet.onhost.nginx.observe import DRAINING, MASTER, WORKER
from fleet.onhost.nginx.signals import is_pending
from fleet.onhost.rehearsal.evidence import Defect, Fault
from fleet.onhost.rehearsal.inherited import Inherited, become
from fleet.onhost.system.machine import Machine
from fleet.onhost.system.process import Process

STAYED_S = 0.25
"""Seconds for which the workers must be the same ones."""
LOOK_S = 0.03
"""Seconds between two looks. Each costs about a millisecond of a processor."""
GONE_AFTER_S = 0.3
FIFO_LOOK_S = 0.5
MOST_BIRTHS_EACH, SPARE_BIRTHS = 3, 8
"""More children than this for each worker, and these in all, were born: then workers die as soon as they start."""
OPEN_CALLS = {"x86_64": {2: 1, 257: 2}, "aarch64": {56: 2}}
"""The numbers of open(2) and openat(2), and which field of /proc/PID/syscall has the path."""
NOT_EXECUTED, NOT_STARTED = 127, "fleet: could not start"
HELPER = re.compile(r"^\w+: (worker|cache|privileged agent)")
"""The titles of a master's children that are no master."""
MOST_OOM_SCORE = 1000
LAST_DESCRIPTOR = 1 << 20

Image = Tuple[int, int]


class Family(NamedTuple):
    """A master and its children: `born` are all that were ever seen, `workers` those that accept."""

    master: Process
    children: FrozenSet[int]
    workers: FrozenSet[int]


class Came(NamedTuple):
    """How a generation came up: its master, if there is one, its workers, and what is wrong with them."""

    master: Optional[int]
    workers: FrozenSet[int]
    fault: Optional[Fault]


def start(who: Inherited, words: int) -> int:
    """Start the master's binary as the master was started. Returns its pid; `words` takes both of its outputs."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        nothing = os.open("/dev/null", os.O_RDWR)
        for source, target in ((nothing, 0), (words, 1), (words, 2)):
            os.dup2(source, target)
        os.closerange(3, min(LAST_DESCRIPTOR, os.sysconf("SC_OPEN_MAX")))
        _offer_to_oom_killer()
        lacking = become(who)
        if lacking:
            os.write(2, ("fleet: not set as for the master: %s\n" % ", ".join(lacking)).encode())
        os.execve(who.argv[0], who.argv, who.environment)
    except BaseException as error:  # This process must end here, whatever happened.
        os.write(2, ("%s %s: %s\n" % (NOT_STARTED, who.argv[0], error)).encode("utf-8", "replace"))
    os._exit(NOT_EXECUTED)


def _offer_to_oom_killer() -> None:
    """If memory gets short, the kernel shall end this process and not the running nginx."""
    try:
        with open("/proc/self/oom_score_adj", "w") as sink:
            sink.write(str(MOST_OOM_SCORE))
    except OSError:
        return


def reap() -> Dict[int, int]:
    """The children of this process that have ended, with their status."""
    ended: Dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if not pid:
            return ended
        ended[pid] = status


def family(machine: Machine, parent: int, image: Image) -> Optional[Family]:
    """The master below this parent that runs this image, or `None`."""
    every = machine.processes()
    for process in every:
        if process.ppid == parent and MASTER.match(process.title) and machine.image(process.pid) == image:
            children = [one for one in every if one.ppid == process.pid]
            workers = [one.pid for one in children if WORKER.match(one.title) and DRAINING not in one.title]
            return Family(process, frozenset(one.pid for one in children), frozenset(workers))
    return None


def come_up(
    machine: Machine, parent: int, image: Image, least: int, limit_s: float, started: Optional[int] = None
) -> Came:
    """Wait until a master below `parent` has at least `least` workers that stay, or until it is clear that it has not.

    `started` is the process that this one has started; without it, the parent is a master that was sent USR2.
    """
    began_s = machine.monotonic_s()
    seen: FrozenSet[int] = frozenset()
    same_since_s, next_fifo_look_s = began_s, began_s + FIFO_LOOK_S
    born: FrozenSet[int] = frozenset()
    here: Optional[Family] = None
    ended: Dict[int, int] = {}
    while machine.monotonic_s() - began_s < limit_s:
        now_s = machine.monotonic_s()
        ended.update(reap())
        here = family(machine, parent, image)
        if here is not None:
            born |= here.children
            if len(born) > MOST_BIRTHS_EACH * max(least, len(here.workers), 1) + SPARE_BIRTHS:
                return Came(here.master.pid, here.workers, Fault(Defect.WORKERS_DIE, _births(born)))
            if here.workers != seen or len(seen) < max(least, 1):
                seen, same_since_s = here.workers, now_s
            elif now_s - same_since_s >= STAYED_S:
                return Came(here.master.pid, seen, None)
        elif _is_over(machine, parent, started, ended, now_s - began_s):
            status = ended.get(started or 0)
            return Came(None, seen, Fault(Defect.ENDED, _ending(status), signal=(status or 0) & 127 or None))
        if now_s >= next_fifo_look_s:
            blocked, next_fifo_look_s = waiting_for(machine), now_s + FIFO_LOOK_S
            if blocked is not None:
                return Came(None, seen, Fault(Defect.BLOCKED, "it waits for a writer", blocked))
        machine.pause(LOOK_S)
    return _too_late(here, limit_s)


def _births(born: FrozenSet[int]) -> str:
    return "%d workers were started, and they end at once" % len(born)


def _is_over(machine: Machine, parent: int, started: Optional[int], ended: Dict[int, int], waited_s: float) -> bool:
    """Whether no master will come. A daemon's first process ends with code 0 and leaves its child to us.

    A master that was sent USR2 is done with it when it waits for the next signal and none is pending.
    """
    if started is not None and ended.get(started):
        return True
    if waited_s < GONE_AFTER_S or (started is not None and started not in ended):
        return False
    if started is None and not _waits_for_signals(machine, parent):
        return False
    return all(one.ppid != parent or HELPER.match(one.title) for one in machine.processes())


def _waits_for_signals(machine: Machine, pid: int) -> bool:
    process = machine.process(pid)
    return process is not None and process.state == "S" and not is_pending(machine, pid, signal.SIGUSR2)


def _ending(status: Optional[int]) -> str:
    if status is None:
        return "it exited"
    if status & 127:
        return "signal %d ended it" % (status & 127)
    return "it exited with code %d" % (status >> 8)


def _too_late(here: Optional[Family], limit_s: float) -> Came:
    if here is None:
        return Came(None, frozenset(), Fault(Defect.NO_WORKERS, "no master came within %.0f s" % limit_s))
    text = "%d workers were ready and stayed within %.0f s" % (len(here.workers), limit_s)
    return Came(here.master.pid, here.workers, Fault(Defect.NO_WORKERS, text))


def waiting_for(machine: Machine) -> Optional[str]:
    """The FIFO without a writer that one of the processes waits to read, or `None`.

    A FIFO that a process waits to write to (a log) gets a reader: this process, which never reads.
    """
    for process in machine.processes():
        path, is_writer = _blocked_in(machine, process.pid) if process.pid != os.getpid() else (None, False)
        if path is not None and is_writer:
            os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        elif path is not None:
            return path
    return None


def _blocked_in(machine: Machine, pid: int) -> Tuple[Optional[str], bool]:
    """The FIFO that the process is opening, and whether it opens it for writing."""
    fields = (machine.read("/proc/%d/syscall" % pid) or "").split()
    calls = OPEN_CALLS.get(os.uname().machine, {})
    if not fields or not fields[0].isdigit() or int(fields[0]) not in calls:
        return None, False
    try:
        at = calls[int(fields[0])]
        data = machine.read_from("/proc/%d/mem" % pid, int(fields[at], 16), 4096)
        path = os.fsdecode(data.split(b"\0")[0])
        is_writer = int(fields[at + 1], 16) & os.O_ACCMODE == os.O_WRONLY
        return (path if stat.S_ISFIFO(os.stat(path).st_mode) else None), is_writer
    except (OSError, ValueError, IndexError):
        return None, False
