"""The rehearsal itself: the running release, then the new one by USR2, then the new one alone. We are in the copy.

This process is pid 1 of its PID namespace, so everything that it started ends with it.
"""

import os
import re
import resource
import signal
from collections import Counter
from typing import Collection, NamedTuple, Optional, Sequence, Tuple

from fleet.onhost.nginx.signals import is_pending
from fleet.onhost.protocol import Probe
from fleet.onhost.rehearsal import kernel
from fleet.onhost.rehearsal.evidence import Answered, Defect, Fault, Generation, Opened, Rehearsal
from fleet.onhost.rehearsal.inherited import Inherited, environment
from fleet.onhost.rehearsal.log_reader import Reader, by_others, error_log
from fleet.onhost.rehearsal.questions import ask_listeners, ask_probes
from fleet.onhost.rehearsal.shadow import alike
from fleet.onhost.rehearsal.startup import NOT_STARTED, Image, come_up, family, reap, start
from fleet.onhost.system.machine import POLL_S, Machine
from fleet.onhost.system.mounts import NO_DEVICES

START_LIMIT_S = 40.0
LAUNCH_FLOOR_S, LAUNCH_FACTOR = 5.0, 4.0
DRAIN_LIMIT_S = 3.0
LINES_S = 0.05
"""Seconds that nginx has to write what it has to say of the last question."""
LIBRARY = re.compile(r"/(lib[^/]*\.so|ld-)[^/]*$")
PLACE = "/proc/fs"
"""A folder of the copy's own /proc, over which a tmpfs is mounted for a moment."""
OURSELVES = 1
WRITTEN = re.compile(r"^write_bytes: (\d+)", re.MULTILINE)
BLOCK_BYTES = 512
"""Of `ru_oublock` in getrusage(2)."""
PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
SIGNAL_IGNORED = "the changing binary signal is ignored"
DEAF = Fault(Defect.IGNORED, "the running release does not act on USR2")


class Play(NamedTuple):
    """What is played: the master's inheritance, both binaries, and the probes; `words` takes what nginx says at its start."""

    machine: Machine
    who: Inherited
    old: Optional[bytes]
    new: bytes
    probes: Tuple[Probe, ...]
    pid_file: Optional[str]
    words: int


def perform(play: Play) -> Rehearsal:
    """What both generations showed, and what it took."""
    found = _generations(play)
    machine = play.machine
    return found._replace(cpu_s=_used_s(machine), memory_kb=_memory_kb(machine, play.words), disk_kb=_disk_kb(machine))


def _generations(play: Play) -> Rehearsal:
    reader = Reader(play.machine, play.words)
    if play.old is None:
        return Rehearsal(new=_alone(play, play.new, reader)[1], alone=True)
    top, old = _alone(play, play.old, reader)
    if top is None:
        if old.fault is not None and old.fault.defect is Defect.BLOCKED:
            return Rehearsal(old=old)
        return Rehearsal(old=old, new=_alone(play, play.new, reader)[1], alone=True)
    return Rehearsal(old=old, new=_second(play, top, old, reader))


def _alone(play: Play, data: bytes, reader: Reader) -> Tuple[Optional[int], Generation]:
    """Start one binary as the master was started, and ask it. Gives the master's pid if it came up."""
    machine = play.machine
    began_s = machine.monotonic_s()
    image = put(data, play.who.argv[0])
    started = start(play.who, play.words)
    came = come_up(machine, OURSELVES, image, 1, START_LIMIT_S, started)
    up_s = machine.monotonic_s() - began_s
    if came.fault is not None or came.master is None:
        lines = reader.lines([came.master] if came.master else [])
        end_all(machine)
        return None, Generation(up_s, _explained(came.fault, lines), len(came.workers), lines=lines)
    seen = _seen(play, came.master, came.workers, up_s)._replace(daemon=came.master != started)
    answers = ask_listeners(seen.listeners) + ask_probes(machine, play.probes, came.workers)
    machine.pause(LINES_S)
    return came.master, seen._replace(answers=answers, lines=reader.lines([came.master]))


def _explained(fault: Optional[Fault], lines: Sequence[str]) -> Optional[Fault]:
    """The fault with fleet's own words, where fleet could not start the binary."""
    own = [line for line in lines if line.startswith(NOT_STARTED)]
    return fault._replace(text=own[-1]) if fault is not None and own else fault


def _second(play: Play, top: int, old: Generation, reader: Reader) -> Generation:
    """USR2 to the running release's master, and what comes of it. Then WINCH, so that only the new release answers."""
    machine = play.machine
    began_s = machine.monotonic_s()
    before = [one.pid for one in machine.processes()]
    image = put(play.new, play.who.argv[0])
    os.kill(top, signal.SIGUSR2)
    limit_s = LAUNCH_FLOOR_S + LAUNCH_FACTOR * old.up_s
    came = come_up(machine, top, image, old.workers, limit_s)
    up_s = machine.monotonic_s() - began_s
    masters = [top] + ([came.master] if came.master else [])
    if came.fault is not None or came.master is None:
        lines = reader.lines(masters)
        fault = came.fault if came.master or not _is_deaf(machine, top, lines) else DEAF
        return Generation(up_s, fault, len(came.workers), lines=lines)
    seen = _seen(play, came.master, came.workers, up_s)
    os.kill(top, signal.SIGWINCH)
    _wait_for_drain(machine, top, machine.monotonic_s() + DRAIN_LIMIT_S)
    answers = ask_listeners(old.listeners)
    if not _are_worse(answers, old.answers):  # A release that leaves listeners without an answer fails probes slowly.
        answers += ask_probes(machine, play.probes, came.workers)
    machine.pause(LINES_S)
    return seen._replace(answers=answers, lines=by_others(reader.lines(masters), before))


def _are_worse(now: Sequence[Answered], before: Sequence[Answered]) -> bool:
    """Whether a question that had an answer has none now."""
    answered = {one.question for one in before if one.good}
    return any(one.question in answered and not one.good for one in now)


def _is_deaf(machine: Machine, pid: int, lines: Collection[str]) -> bool:
    """Whether USR2 is still pending in the master, or it said that it ignores it."""
    return is_pending(machine, pid, signal.SIGUSR2) or any(SIGNAL_IGNORED in one for one in lines)


def _wait_for_drain(machine: Machine, top: int, until_s: float) -> None:
    """Until no worker of the old master accepts, or time is up: then both generations answer."""
    image = machine.image(top)
    while image is not None and machine.monotonic_s() < until_s:
        reap()
        here = family(machine, OURSELVES, image)
        if here is None or not here.workers:
            return
        machine.pause(POLL_S)


def _seen(play: Play, master: int, workers: Collection[int], up_s: float) -> Generation:
    """What can be seen of a generation that came up."""
    machine = play.machine
    named = (machine.read(play.pid_file) or "").strip() if play.pid_file else ""
    one = machine.stat("/proc/%d" % min(workers)) if workers else None
    return Generation(
        up_s=up_s,
        workers=len(workers),
        listeners=_listeners(machine, master),
        modules=_modules(machine, master),
        environment=tuple(sorted(environment(machine, master))),
        user=one.st_uid if one else None,
        error_log=error_log(machine, master),
        pid_file=play.pid_file if named == str(master) else None,
    )


def _listeners(machine: Machine, pid: int) -> Tuple[Opened, ...]:
    held, every = machine.socket_inodes(pid), machine.listeners(pid)
    counted = Counter((one.kind, one.address) for inode, one in every.items() if inode in held)
    return tuple(Opened(kind, address, sockets) for (kind, address), sockets in sorted(counted.items()))


def _modules(machine: Machine, pid: int) -> Tuple[str, ...]:
    """The shared objects that the process has mapped, but for system libraries."""
    names = {
        line.partition("/")[2] for line in (machine.read("/proc/%d/maps" % pid) or "").splitlines() if ".so" in line
    }
    return tuple(sorted("/" + name for name in names if not LIBRARY.search("/" + name)))


def _used_s(machine: Machine) -> float:
    """The CPU seconds of all other processes that live here: what dies with this one is counted nowhere else.

    A process's own time is known to the nanosecond, where the kernel keeps it; in ticks, nginx often starts in none.
    """
    used_s = 0.0
    for pid in (one.pid for one in machine.processes() if one.pid != OURSELVES):
        fields = (machine.read("/proc/%d/stat" % pid) or "").rpartition(")")[2].split()
        own, children = [sum(map(int, part)) / os.sysconf("SC_CLK_TCK") for part in (fields[11:13], fields[13:15])]
        exact = (machine.read("/proc/%d/schedstat" % pid) or "").split()
        used_s += (int(exact[0]) / 1e9 if exact else own) + children
    return used_s


def _memory_kb(machine: Machine, words: int) -> int:
    """The memory of all nginx processes that live here (PSS), and that of the copy, where the file `words` is, too."""
    texts = [
        machine.read("/proc/%d/smaps_rollup" % one.pid) or "" for one in machine.processes() if one.pid != OURSELVES
    ]
    files = os.fstatvfs(words)
    written_kb = (files.f_blocks - files.f_bfree) * files.f_frsize >> 10
    return written_kb + sum(int(number) for text in texts for number in PSS.findall(text))


def _disk_kb(machine: Machine) -> int:
    """What the processes here wrote to a disk: nothing, if every file that they wrote is in the copy."""
    texts = [machine.read("/proc/%d/io" % one.pid) or "" for one in machine.processes()]
    ended_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock * BLOCK_BYTES
    return (ended_bytes + sum(int(number) for text in texts for number in WRITTEN.findall(text))) >> 10


def put(data: bytes, path: str) -> Image:
    """Put these bytes at the path, with owner, mode and attributes of the file there. Returns (device, inode).

    Where the folder can't be written to, the new file is mounted over the old one. Raises OSError.
    """
    real = os.path.realpath(path)
    fresh = "%s/.rehearsed.%d" % (os.path.dirname(real), len(data))
    try:
        _write(data, fresh, real)
        os.rename(fresh, real)
    except OSError:
        kernel.mount("tmpfs", PLACE, "tmpfs", NO_DEVICES, "mode=755")
        _write(data, PLACE + "/nginx", real)
        kernel.bind(PLACE + "/nginx", real)
        kernel.detach(PLACE)
    seen = os.stat(real)
    return seen.st_dev, seen.st_ino


def _write(data: bytes, path: str, like: str) -> None:
    with open(path, "wb") as sink:
        sink.write(data)
    os.chmod(path, 0o755)
    if os.path.exists(like):
        alike(like, path)
        os.chmod(path, os.stat(path).st_mode & 0o7777 | 0o111)


def end_all(machine: Machine) -> None:
    """End every other process of the rehearsal but the relay, and wait for them."""
    until_s = machine.monotonic_s() + DRAIN_LIMIT_S
    while machine.monotonic_s() < until_s:
        reap()
        living = [one.pid for one in machine.processes() if one.pid != OURSELVES and "nginx" in one.title]
        if not living:
            return
        for pid in living:
            os.kill(pid, signal.SIGKILL)
        machine.pause(POLL_S)
