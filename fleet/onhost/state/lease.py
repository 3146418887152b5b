"""The dead-man's switch: neither renewed nor committed in time, the host goes back by itself.

Network gear calls it commit-confirmed. The first visit of an upgrade writes the lease and starts a *watcher*, before it
changes anything; each further visit renews the lease as its last act under the instance's lock; a commit ends it. The
watcher is a process of its own session and process group, so that it survives the SSH link; it has imported all it will
need before it says that it watches. When the time has run out it takes the lock, reads lease and phase *again*, and
goes back by the same table as every rollback.

The deadline is in CLOCK_BOOTTIME, which nobody sets and which goes on while the host sleeps; with it stands the boot id,
because a reboot voids the lease: then the new release was started by the host itself, unconfirmed, and a person decides.
"""

import os
import select
import subprocess
import sys
from contextlib import ExitStack
from typing import Callable, NamedTuple, Optional

from fleet.onhost.protocol import Options, Request, Sender, State
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.system.file_lock import Busy
from fleet.onhost.wire import Malformed

LEASE = "lease.json"
WATCH_LOCK = "watch.lock"
READY = b"watching"
READY_S = 30.0
SLOWEST_LOOK_S = 1.0
LOCK_WAIT_S = 30.0
RETRY_S = 5.0
MOST_TRIES = 6
"""The way back is tried again after 5, 10, 20, 40 and 80 s; then a person must look, and `status` says so."""


class Lease(NamedTuple):
    """Until when the host waits for somebody, and with which options it then goes back. Times as in `Claim`."""

    rollout: str
    epoch: int
    operator: str
    lease_s: float
    boot_id: str
    until_s: float
    options: Options
    sender: Sender = Sender()


class Unwatched(Exception):
    """No watcher could be started, so a lease would be an empty promise."""


def lease_of(own: InstanceStore) -> Optional[Lease]:
    """The lease that is in force: `None` when there is none, when it can't be read, or when the host was booted since."""
    try:
        found: Optional[Lease] = own.load(Lease, LEASE)
    except Malformed:
        return None
    if found is None or found.boot_id != own.machine.boot_id():
        return None
    return found


def left_s(own: InstanceStore) -> Optional[float]:
    """How long the lease still runs, at least 0; `None` without one."""
    found = lease_of(own)
    return None if found is None else max(0.0, found.until_s - own.machine.boottime_s())


def renew(own: InstanceStore, request: Request) -> None:
    """The lease of this request's rollout runs from now on; a request that wants none leaves none of another's.

    The lock is held. Raises OSError.
    """
    if request.lease_s <= 0.0:
        end(own)
        return
    machine = own.machine
    until_s = machine.boottime_s() + request.lease_s
    own.save(
        LEASE,
        Lease(
            request.rollout,
            request.epoch,
            request.operator,
            request.lease_s,
            machine.boot_id(),
            until_s,
            request.options,
            request.sender,
        ),
    )


def arm(own: InstanceStore, request: Request) -> None:
    """The lease runs and is watched: so before anything is changed. Raises `Unwatched`, OSError."""
    renew(own, request)
    if request.lease_s > 0.0:
        ensure_watched(own)


def end(own: InstanceStore) -> None:
    """There is no lease any more; the watcher sees that and leaves. Raises OSError."""
    own.remove(LEASE)


def ensure_watched(own: InstanceStore) -> None:
    """A watcher watches the lease of this instance. Raises `Unwatched`."""
    if is_watched(own):
        return
    words = [sys.executable, "-I", "-B", os.path.realpath(sys.argv[0]), "watch", own.root, own.name]
    try:
        started = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise Unwatched("%s: %s" % (words[0], error))
    assert started.stdout is not None
    with started.stdout as said:
        if not select.select([said], [], [], READY_S)[0] or said.readline().strip() != READY:
            raise Unwatched("the watcher did not come up")


def is_watched(own: InstanceStore) -> bool:
    """Whether a watcher of this instance lives. Raises OSError."""
    try:
        with own.lock(0.0, WATCH_LOCK):
            return False
    except Busy:
        return True


def watch(own: InstanceStore, ready: Callable[[], None], go_back: Callable[[Lease], bool]) -> None:
    """Stay until the lease has ended, was voided by a boot, or ran out and the host went back. One watcher an instance.

    `ready` is called once this one is it. `go_back` takes the host back, under the lock and with a fresh look, and says
    whether it should be tried again: a little later each time, and not for ever.
    """
    with ExitStack() as alone:
        try:
            alone.enter_context(own.lock(0.0, WATCH_LOCK))
        except Busy:
            ready()
            return
        ready()
        tries = 0
        while True:
            wait_s = SLOWEST_LOOK_S
            try:
                if _is_over(own, alone):
                    return
                if _is_out(own):
                    tries += 1
                    wait_s = RETRY_S * 2 ** (tries - 1)
                    act_if_out(own, go_back, is_last=tries == MOST_TRIES)
                else:
                    wait_s, tries = min(wait_s, left_s(own) or 0.0), 0
            except Exception as error:  # whatever it was: a watcher that dies has broken its promise
                own.machine.syslog("the lease's watcher: %s: %s" % (type(error).__name__, error))
            own.machine.pause(wait_s)


def _is_over(own: InstanceStore, alone: ExitStack) -> bool:
    """Whether there is no lease any more. Then this watcher has ceased to be one before anybody can write the next:
    who writes a lease holds the instance's lock, and asks whether it is watched.
    """
    if lease_of(own) is not None:
        return False
    with own.lock(LOCK_WAIT_S):
        if lease_of(own) is not None:
            return False
        alone.close()
        return True


def _is_out(own: InstanceStore) -> bool:
    found = lease_of(own)
    return found is not None and found.until_s <= own.machine.boottime_s()


def act_if_out(own: InstanceStore, go_back: Callable[[Lease], bool], is_last: bool) -> None:
    """The host went back, if the lease is still out under the lock; after the last try there is no lease any more."""
    with own.lock(LOCK_WAIT_S):
        found = lease_of(own)
        if found is None or not _still_out(own):
            return
        if not go_back(found) or is_last:
            end(own)


def _still_out(own: InstanceStore) -> bool:
    """Read again under the lock: a visit that was under way may have renewed the lease, committed or gone back."""
    now = lease_of(own)
    record = own.record
    if now is None or now.until_s > own.machine.boottime_s():
        return False
    wanted = record is not None and record.rollout == now.rollout and record.state is State.BEGUN
    if not wanted:
        end(own)
    return wanted
