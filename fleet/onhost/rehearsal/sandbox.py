"""The processes of a rehearsal: this one, a builder in the master's namespaces, and pid 1 of a PID namespace of its own.

Each dies with its parent, and everything in the PID namespace with its pid 1. So nothing is left behind, whenever and by
whatever the step script is ended.
"""

import os
import select
import sys
import time
import traceback
from typing import Callable, Dict, NamedTuple

from fleet.onhost.rehearsal import kernel, loopback
from fleet.onhost.rehearsal.evidence import Rehearsal
from fleet.onhost.rehearsal.loopback import Relay
from fleet.onhost.rehearsal.view import enter_view
from fleet.onhost.rehearsal.wanted import Wanted
from fleet.onhost.wire import decode, encode

Act = Callable[[int], Rehearsal]
"""What is played in the copy, given a handle of the file that takes what nginx says at its start."""


class Handles(NamedTuple):
    """Handles of what must stay reachable: /proc, the master's root folder, its network, its mounts."""

    proc: int
    root: int
    network: int
    mounts: int


class Impossible(Exception):
    """The private copy can't be had on this host."""


def in_sandbox(pid: int, wanted: Wanted, act: Act, limit_s: float) -> Rehearsal:
    """The result of `act`, called in a private copy of what the process `pid` sees. Raises `Impossible`.

    `limit_s`: a rehearsal that has not ended by then is ended.
    """
    taker, giver = os.pipe()
    ourselves = os.getpid()
    builder = os.fork()
    if builder == 0:
        os.close(taker)
        _build(ourselves, pid, wanted, act, giver)
    os.close(giver)
    try:
        text = _read_all(taker, limit_s)
    finally:
        os.close(taker)
        os.kill(builder, 9)
        os.waitpid(builder, 0)
    if not text:
        raise Impossible("it was ended from outside, or did not end in time (%.0f s)" % limit_s)
    found: Rehearsal = decode(Rehearsal, text)
    return found


def _read_all(descriptor: int, limit_s: float) -> str:
    until_s = time.monotonic() + limit_s
    data = b""
    while select.select([descriptor], [], [], max(0.0, until_s - time.monotonic()))[0]:
        more = os.read(descriptor, 1 << 16)
        if not more:
            return data.decode("utf-8", "replace")
        data += more
    return ""


def _build(asker: int, pid: int, wanted: Wanted, act: Act, giver: int) -> None:
    """The builder: enters the master's namespaces, makes those of the rehearsal, and waits for its pid 1."""
    try:
        kernel.die_with_parent()
        if os.getppid() == asker:
            handles = _enter(pid)
            settings = loopback.read_settings(handles.proc)
            kernel.unshare(kernel.NEW_MOUNTS | kernel.NEW_PIDS | kernel.NEW_IPC)
            kernel.make_private(".")
            os.chdir("/")
            loopback.make_private()
            alive, _kept = os.pipe()
            first = os.fork()
            if first == 0:
                os.close(_kept)
                _be_first(alive, pid, handles, settings, wanted, act, giver)
            os.waitpid(first, 0)
    except BaseException as error:  # This process must end here, whatever happened.
        _give(giver, Rehearsal(why_not=_in_words(error)))
    os._exit(0)


def _enter(pid: int) -> Handles:
    """Enter the master's network, mounts and root; the current folder is the root of its mounts."""
    proc = os.open("/proc", os.O_RDONLY)
    folder = "/proc/%d/" % pid
    handles = Handles(proc, *(os.open(folder + name, os.O_RDONLY) for name in ("root", "ns/net", "ns/mnt")))
    users = os.open(folder + "ns/user", os.O_RDONLY)
    if not _is_ours(users, "user", proc):
        raise Impossible("nginx runs in a user namespace of its own (a rootless container)")
    for handle, name, kind in (
        (handles.network, "net", kernel.NEW_NETWORK),
        (handles.mounts, "mnt", kernel.NEW_MOUNTS),
    ):
        if not _is_ours(handle, name, proc):
            kernel.set_namespace(handle, kind)
    top = os.open("/", os.O_RDONLY)
    os.fchdir(handles.root)
    os.chroot(".")
    os.fchdir(top)
    os.close(top)
    return handles


def _is_ours(handle: int, name: str, proc: int) -> bool:
    return os.path.samestat(os.fstat(handle), os.stat("self/ns/" + name, dir_fd=proc))


def _be_first(
    alive: int, pid: int, handles: Handles, settings: Dict[str, str], wanted: Wanted, act: Act, giver: int
) -> None:
    """Pid 1 of the rehearsal. A parent that ended before it was watched is known by its end of the pipe."""
    try:
        kernel.die_with_parent()
        if not select.select([alive], [], [], 0)[0]:
            words, notes = enter_view(pid, handles.proc, wanted)
            loopback.apply_settings(settings)
            _add_hosts(wanted)
            if wanted.relay:
                _start_relay(handles.network)
            found = act(words)
            _give(giver, found._replace(notes=found.notes + notes))
    except BaseException as error:  # This process must end here, whatever happened.
        _give(giver, Rehearsal(why_not=_in_words(error)))
    os._exit(0)


def _add_hosts(wanted: Wanted) -> None:
    if wanted.hosts:
        with open("/etc/hosts", "a") as sink:
            sink.writelines("%s %s\n" % (address, name) for name, address in wanted.hosts)


def _start_relay(outside: int) -> None:
    relay = Relay(outside)
    if os.fork() == 0:
        try:
            relay.serve()
        finally:
            os._exit(0)


def _give(giver: int, found: Rehearsal) -> None:
    data = encode(found).encode()
    while data:
        data = data[os.write(giver, data) :]


def _in_words(error: BaseException) -> str:
    if not isinstance(error, (OSError, Impossible)):
        sys.stderr.write(traceback.format_exc())
    return "%s: %s" % (type(error).__name__, error) if not isinstance(error, Impossible) else str(error)
