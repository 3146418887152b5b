"""The lease: if it expires without renewal or commit, the host rolls itself back. (Network devices: commit-confirmed.)

The first visit of an upgrade writes the lease and starts a *watcher* before it changes anything. Each further visit
renews the lease as its last act under the instance's lock; a commit ends it. The watcher has a session and a process
group of its own, so that it survives the SSH connection, and it has imported all it needs before it reports that it
watches. When the lease expires it takes the lock, reads lease and phase *again*, and goes back as any rollback does.

The deadline is in CLOCK_BOOTTIME, which cannot be set and also runs while the host sleeps. A reboot voids the lease (the
boot id is stored with it): the host itself has then started the new release, unconfirmed, and a person decides.
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
"""A failed way back is tried again after 5, 10, 20, 40 and 80 s. Then a person must look, and `status` says so."""


class Lease(NamedTuple):
    """When the host goes back by itself, and with which options. Times as in `Claim`."""

    rollout: str
    epoch: int
    operator: str
    lease_s: float
    boot_id: str
    until_s: float
    options: Options
    sender: Sender = Sender()


class Unwatched(Exception):
    """The watcher could not be started, so the lease would have no effect."""


def lease_of(own: InstanceStore) -> Optional[Lease]:
    """The lease in force; `None` if there is none, it can't be read, or the host was booted since."""
    try:
        found: Optional[Lease] = own.load(Lease, LEASE)
    except Malformed:
        return None
    if found is None or found.boot_id != own.machine.boot_id():
        return None
    return found


def left_s(own: InstanceStore) -> Optional[float]:
    """Seconds until the lease expires, at least 0; `None` without a lease."""
    found = lease_of(own)
    return None if found is None else max(0.0, found.until_s - own.machine.boottime_s())


def renew(own: InstanceStore, request: Request) -> None:
    """Write the lease of this request's rollout, from now on. A request without a lease ends any lease.

    The caller holds the lock. Raises OSError.
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
    """Write the lease and have it watched. Comes before any change. Raises `Unwatched`, OSError."""
    renew(own, request)
    if request.lease_s > 0.0:
        ensure_watched(own)


def end(own: InstanceStore) -> None:
    """Remove the lease; the watcher sees that and exits. Raises OSError."""
    own.remove(LEASE)


def ensure_watched(own: InstanceStore) -> None:
    """Start a watcher for this instance, unless one runs. Raises `Unwatched`."""
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
    with started.stdout as output:
        if not select.select([output], [], [], READY_S)[0] or output.readline().strip() != READY:
            raise Unwatched("the watcher did not come up")


def is_watched(own: InstanceStore) -> bool:
    """Whether a watcher of this instance runs. Raises OSError."""
    try:
        with own.lock(0.0, WATCH_LOCK):
            return False
    except Busy:
        return True


def watch(own: InstanceStore, ready: Callable[[], None], go_back: Callable[[Lease], bool]) -> None:
    """Watch the lease until it ends, a boot voids it, or it expires and the host went back. One watcher per instance.

    `ready` is called once this process watches, or another one does. `go_back` takes the host back, under the lock, and
    returns whether to try again: later each time, and `MOST_TRIES` times at most.
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
            except Exception as error:  # Any error: if the watcher dies, the host never goes back by itself.
                own.machine.syslog("the lease's watcher: %s: %s" % (type(error).__name__, error))
            own.machine.pause(wait_s)


def _is_over(own: InstanceStore, alone: ExitStack) -> bool:
    """Whether the lease has ended. If so, this watcher frees the watcher's lock before the next lease is written:
    a visit writes a lease under the instance's lock, and only then asks whether it is watched.
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
    """Take the host back if the lease is still expired under the lock. After the last try, end the lease."""
    with own.lock(LOCK_WAIT_S):
        found = lease_of(own)
        if found is None or not _still_out(own):
            return
        if not go_back(found) or is_last:
            end(own)


def _still_out(own: InstanceStore) -> bool:
    """Whether the lease is still expired: a visit may have renewed it, committed or gone back before the lock was free."""
    now = lease_of(own)
    record = own.record
    if now is None or now.until_s > own.machine.boottime_s():
        return False
    wanted = record is not None and record.rollout == now.rollout and record.state is State.BEGUN
    if not wanted:
        end(own)
    return wanted
