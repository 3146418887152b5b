"""The lease: if it expires without renewal or commit, the host rolls itself back. (Network devices: commit-confirmed.)

The first visit of an upgrade writes the lease and has it watched (`watcher.py`) before it changes anything. Each further
visit renews it as its last act under the instance's lock; a commit ends it. When it expires, the watcher takes the lock,
reads lease and phase *again*, and goes back as any rollback does.

The deadline is in CLOCK_BOOTTIME, which cannot be set and also runs while the host sleeps. A reboot voids the lease (the
boot id is stored with it): the host itself has then started the new release, unconfirmed, and a person decides.
"""

from typing import Callable, NamedTuple, Optional

from fleet.onhost.protocol import Options, Request, Sender, State
from fleet.onhost.state.store import InstanceStore

LEASE = "lease.json"
LOCK_WAIT_S = 30.0


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


def lease_of(own: InstanceStore) -> Optional[Lease]:
    """The lease in force; `None` if there is none, it can't be read, or the host was booted since."""
    found: Optional[Lease] = own.load_of_boot(Lease, LEASE)
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
        lasting=False,
    )


def end(own: InstanceStore) -> None:
    """Remove the lease; the watcher sees that and exits. Raises OSError."""
    own.drop(LEASE)


def act_if_out(own: InstanceStore, go_back: Callable[[Lease], bool], is_last: bool) -> bool:
    """Take the host back if the lease is still expired under the lock. Whether to try again: not after the last try, which
    ends the lease.
    """
    with own.lock(LOCK_WAIT_S):
        found = lease_of(own)
        if found is None or not _still_out(own):
            return False
        if go_back(found) and not is_last:
            return True
        end(own)
        return False


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
