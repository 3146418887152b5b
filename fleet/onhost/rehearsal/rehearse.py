"""Rehearses the upgrade of a running master: the door of this package.

A try can fail because of the copy, not because of a release: a log that is too large to copy, a name that no server may
be asked for, a folder that stays read-only. nginx names it in its log, and the next try provides for it.
"""

import os
import re
import resource
import socket
import stat
from typing import List, Optional, Set, Tuple

from fleet.onhost.instance import Instance
from fleet.onhost.observation import Master
from fleet.onhost.protocol import Probe
from fleet.onhost.rehearsal.evidence import Generation, Rehearsal
from fleet.onhost.rehearsal.inherited import inherited
from fleet.onhost.rehearsal.perform import Play, perform
from fleet.onhost.rehearsal.sandbox import Impossible, in_sandbox
from fleet.onhost.rehearsal.wanted import Wanted
from fleet.onhost.system.machine import Machine
from fleet.onhost.system.memory import memory_rooms, resident_bytes

LIMIT_S = 120.0
"""Seconds for all tries. The controller takes a silence of 300 s for a dead link."""
MOST_TRIES = 20
SPARE_BYTES = 32 << 20
"""For the binaries and whatever else is written in the copy."""
DELETED = " (deleted)"
NO_SPACE = re.compile(r'open\(\) "([^"]+)" failed \(28: ')
READ_ONLY = re.compile(r'(?:"|unix:)(/[^" ]+)"?(?:, \d+\))? failed \(30: ')
NO_NAME = re.compile(r'host not found in [^"]*"(?:[a-z]+://)?([^":/]+)')
TAKEN_BY_RELAY = re.compile(r"bind\(\) to \S+:53 failed \(98: ")


def rehearse(instance: Instance, master: Master, binary: str, probes: Tuple[Probe, ...], alone: bool) -> Rehearsal:
    """What both generations showed when the upgrade of `master` to `binary` was rehearsed; `alone`: only the new one's.

    Nothing on the host changes. Never raises: a rehearsal that can't be had says why.
    """
    machine = instance.machine
    began_s, before = machine.monotonic_s(), _used_s()
    try:
        found = _tried(instance, master, binary, probes, alone)
    except Impossible as error:
        found = Rehearsal(why_not=str(error))
    except (OSError, ValueError, LookupError) as error:
        found = Rehearsal(why_not="%s: %s" % (type(error).__name__, error))
    return found._replace(wall_s=machine.monotonic_s() - began_s, cpu_s=found.cpu_s + _used_s() - before)


def _used_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(
        seen.ru_utime + seen.ru_stime
        for seen in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _tried(instance: Instance, master: Master, binary: str, probes: Tuple[Probe, ...], alone: bool) -> Rehearsal:
    """The rehearsal, tried again while nginx names what the copy lacks. Raises `Impossible`, OSError, ValueError."""
    machine = instance.machine
    who = inherited(machine, master)
    alone = alone or not _has_room_for_both(machine, master)
    old = None if alone else _bytes("/proc/%d/exe" % master.pid)
    new = _bytes(binary)
    wanted = _wanted(machine, master)
    until_s = machine.monotonic_s() + LIMIT_S
    for _ in range(MOST_TRIES):
        found = in_sandbox(
            master.pid,
            wanted,
            lambda words: perform(Play(machine, who, old, new, probes, instance.layout.pid_file, words)),
            until_s - machine.monotonic_s(),
        )
        better = learnt(wanted, "\n".join(_lines(found.old) + _lines(found.new)))
        if better == wanted:
            break
        wanted = better
    return found


def _has_room_for_both(machine: Machine, master: Master) -> bool:
    """Whether two generations have room beside the running one. Raises `Impossible` when not even one has."""
    pids = [master.pid] + [worker.pid for worker in master.workers]
    one = sum(resident_bytes(machine, pid) for pid in pids) + SPARE_BYTES
    room = min(memory_rooms(machine, os.getpid(), "fleet"), key=lambda room: room.free_bytes, default=None)
    if room is not None and room.free_bytes < one:
        words = room.where, room.free_bytes >> 20, room.limit, one >> 20
        raise Impossible("memory is short: %s has %d MiB free (%s), and a generation needs about %d MiB" % words)
    return room is None or room.free_bytes >= 2 * one


def _bytes(path: str) -> bytes:
    with open(path, "rb") as source:
        return source.read()


def _wanted(machine: Machine, master: Master) -> Wanted:
    """What is known of the copy before the first try."""
    listeners = machine.listeners(master.pid)
    own = {listeners[one].address for one in master.listeners if one in listeners and listeners[one].kind == "unix"}
    return Wanted(
        empty=_written_by(machine, master.pid),
        writable=tuple(sorted({os.path.dirname(path) for path in own})),
        foreign_sockets=tuple(sorted(_socket_paths(machine, master.pid) - own)),
        own_sockets=tuple(sorted(own)),
    )


def _written_by(machine: Machine, pid: int) -> Tuple[str, ...]:
    """The regular files that the process has open for writing, as it sees their paths."""
    found = set()
    root = _target("/proc/%d/root" % pid).rstrip("/")
    for number in machine.names("/proc/%d/fd" % pid):
        path, seen = _target("/proc/%d/fd/%s" % (pid, number)), machine.stat("/proc/%d/fd/%s" % (pid, number))
        flags = re.search(r"^flags:\s*(\d+)", machine.read("/proc/%d/fdinfo/%s" % (pid, number)) or "", re.MULTILINE)
        if seen is None or flags is None or not stat.S_ISREG(seen.st_mode) or path.endswith(DELETED):
            continue
        if int(flags.group(1), 8) & (os.O_WRONLY | os.O_RDWR) and path.startswith(root + "/"):
            found.add(path[len(root) :])
    return tuple(sorted(found))


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _socket_paths(machine: Machine, pid: int) -> Set[str]:
    """The paths of all UNIX sockets in the network namespace of the process."""
    lines = [line.split(None, 7) for line in (machine.read("/proc/%d/net/unix" % pid) or "").splitlines()[1:]]
    return {fields[7] for fields in lines if len(fields) > 7 and fields[7].startswith("/")}


def _lines(one: Optional[Generation]) -> List[str]:
    return list(one.lines) if one is not None else []


def learnt(wanted: Wanted, lines: str) -> Wanted:
    """What these log lines say that the copy must be like; the same if they blame nothing of the copy's."""
    if wanted.relay and TAKEN_BY_RELAY.search(lines):
        return wanted._replace(relay=False)
    full = set(NO_SPACE.findall(lines)) - set(wanted.empty)
    if full:
        return wanted._replace(empty=wanted.empty + tuple(sorted(full)))
    names = set(NO_NAME.findall(lines)) - {name for name, _ in wanted.hosts}
    known = [(name, address) for name in sorted(names) for address in _addresses(name)]
    if known:
        return wanted._replace(hosts=wanted.hosts + tuple(known))
    folders = {os.path.dirname(path) for path in READ_ONLY.findall(lines)} - set(wanted.writable)
    return wanted._replace(writable=wanted.writable + tuple(sorted(folders))) if folders else wanted


def _addresses(name: str) -> List[str]:
    """The addresses of a name, as the host itself finds them."""
    try:
        return sorted({str(one[4][0]) for one in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError):
        return []
