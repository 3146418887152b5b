"""Looks that keep leases and claims alive: a host that waits for its batch's gate, or for the commit, is not forgotten.

A bake looks at every host anyway. While another batch is upgraded, or the commit works through its hosts, nobody would
come, and a held host would go back by itself; so each is looked at by half of its lease, and again soon if that failed.
"""

from datetime import datetime, timedelta

from fleet.onhost.protocol import Ask
from fleet.rollout.host import Course, HostStatus
from fleet.rollout.moves import Move, Visit, Wait
from fleet.rollout.policy import Policy
from fleet.rollout.status import RolloutStatus

AGAIN = timedelta(seconds=10)


def renewals(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Move, ...]:
    """A look at every idle host that is due for one, and the wait for the others."""
    every = timedelta(seconds=policy.renew_every_s)
    found = [(host, _due_at(host, every, now)) for host in status.all if _waits(host)]
    due = tuple(Visit(host.name, Ask.BAKE, host.batch) for host, at in found if at <= now)
    return due + tuple(Wait(at) for _, at in found if at > now)


def _due_at(host: HostStatus, every: timedelta, now: datetime) -> datetime:
    return max((host.renewed_at or now) + every, (host.since or now) + min(AGAIN, every))


def _waits(host: HostStatus) -> bool:
    """Whether the host is in the rollout's hands, idle, and not yet told to commit."""
    is_idle = host.doing is None and host.doubt is None and host.fault is None
    return is_idle and host.course is Course.UPGRADED and not host.visited(Ask.COMMIT)
