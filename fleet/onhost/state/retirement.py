"""The retirement: the rest of a commit, left to the host. It ends the old master once the last old worker has gone.

Downloads and WebSockets can keep the old workers for hours. A commit that is not to wait for them writes the retirement,
ends the lease (an operator has decided), and has it watched (`watcher.py`). Until the old master is gone a rollback still
costs two signals, and removes the retirement; so does any other rollout that takes the host over.

Its deadline is in CLOCK_BOOTTIME, as that of the lease; a reboot voids it.
"""

from typing import Iterable, NamedTuple, Optional, Tuple

from fleet.onhost.observation import Worker
from fleet.onhost.protocol import Options, Request, Sender
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.views import RetirementView

RETIREMENT = "retirement.json"


class Retirement(NamedTuple):
    """Whose commit the host finishes, by when, and with which options. Times as in `Claim`.

    `workers` are the old workers that drained when last looked at, as (pid, start): while one of them lives there is
    nothing to do.
    """

    rollout: str
    epoch: int
    operator: str
    within_s: float
    boot_id: str
    until_s: float
    options: Options
    workers: Tuple[Tuple[int, int], ...] = ()
    sender: Sender = Sender()


def in_force(own: InstanceStore) -> Optional[Retirement]:
    """The retirement; `None` if there is none, it can't be read, or the host was booted since."""
    found: Optional[Retirement] = own.load_of_boot(Retirement, RETIREMENT)
    return found


def left_s(own: InstanceStore) -> Optional[float]:
    """Seconds until the deadline, at least 0; `None` without a retirement."""
    found = in_force(own)
    return None if found is None else max(0.0, found.until_s - own.machine.boottime_s())


def due_in_s(own: InstanceStore) -> Optional[float]:
    """Seconds until something must be done, by now: 0 once the old workers are gone; `None` without a retirement."""
    found = in_force(own)
    if found is None:
        return None
    living = (own.machine.process(pid) for pid, start in found.workers)
    if not any(one is not None and (one.pid, one.start) in found.workers for one in living):
        return 0.0
    return max(0.0, found.until_s - own.machine.boottime_s())


def view(own: InstanceStore) -> Optional[RetirementView]:
    """The retirement as `status` shows it."""
    found, rest_s = in_force(own), left_s(own)
    return None if found is None or rest_s is None else RetirementView(rest_s, found.options.cut)


def write(own: InstanceStore, request: Request, workers: Iterable[Worker]) -> None:
    """Leave the rest of this request's commit to the host. The caller holds the lock, and has it watched.

    Raises OSError.
    """
    machine, within_s = own.machine, request.options.retire_within_s
    own.save(
        RETIREMENT,
        Retirement(
            request.rollout,
            request.epoch,
            request.operator,
            within_s,
            machine.boot_id(),
            machine.boottime_s() + within_s,
            request.options,
            tuple((one.pid, one.start) for one in workers),
            request.sender,
        ),
        lasting=False,
    )


def wait_for(own: InstanceStore, found: Retirement, workers: Iterable[Worker]) -> None:
    """Wait for these workers, which drain in place of others: a reload from outside had revived the old master."""
    own.save(RETIREMENT, found._replace(workers=tuple((one.pid, one.start) for one in workers)), lasting=False)


def end(own: InstanceStore) -> None:
    """Remove the retirement. Raises OSError."""
    own.drop(RETIREMENT)
