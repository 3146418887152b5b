"""Looks that keep leases and claims alive: a host that waits for its batch's gate, or for the commit, is not forgotten.

A bake looks at every host anyway. While another batch is upgraded, or the commit works through its hosts, nobody would
come, and a held host would go back by itself; so each is looked at by half of its lease, and again soon if that failed.
"""

from datetime import datetime, timedelta

from fleet.onhost.protocol import Ask
from fleet.rollout.actions import Move, Visit, Wait
from fleet.rollout.host_status import Course, HostStatus
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus, Stage

AGAIN = timedelta(seconds=10)


def renewals(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Move, ...]:
    """A look at every idle host that is due for one, and the wait for the others."""
    every = timedelta(seconds=policy.renew_every_s)
    waiting = [host for host in status.all if _waits(host)]
    queues = policy.lease_s > 0 and status.stage is Stage.COMMITTING and len(waiting) > policy.parallel
    queue_since = status.committing_at if queues else None
    found = [(host, _due_at(host, every, status.started_at or now, queue_since)) for host in waiting]
    due = tuple(Visit(host.name, Ask.BAKE, host.batch) for host, at in found if at <= now)
    return due + tuple(Wait(at) for _, at in found if at > now)


def _due_at(host: HostStatus, every: timedelta, status_at: datetime, queue_since: datetime | None) -> datetime:
    """When the host should be looked at: at once, when it must queue for its commit and nobody has told it so."""
    if queue_since is not None and (host.renewed_at is None or host.renewed_at < queue_since):
        return max(queue_since, (host.since or queue_since) + min(AGAIN, every))
    if host.renewed_at is None and host.report is not None and host.report.lease_left_s is not None:
        every = min(every, timedelta(seconds=host.report.lease_left_s / 2))  # of an earlier run, and partly gone
    renewed_at = host.renewed_at or status_at
    return max(renewed_at + every, (host.since or renewed_at) + min(AGAIN, every))


def _waits(host: HostStatus) -> bool:
    """Whether the host is in the rollout's hands, idle, and not yet told to commit."""
    is_idle = host.doing is None and host.doubt is None and host.fault is None
    is_held = host.course is Course.UPGRADED or (host.course is Course.BEGUN and host.held)
    return is_idle and is_held and not host.visited(Ask.COMMIT)


def spared(policy: Policy, status: RolloutStatus, moves: tuple[Move, ...]) -> tuple[Move, ...]:
    """The moves, with one place kept free for renewals while more hosts wait for their commit than there are places:
    a commit may wait long for old connections, and the hosts behind it must not go back meanwhile.
    """
    commits = [move for move in moves if isinstance(move, Visit) and move.ask is Ask.COMMIT]
    room = max(policy.parallel - 1 - status.busy, 0)
    if not policy.lease_s or policy.parallel == 1 or len(commits) <= room + 1:
        return moves
    kept = commits[:room]
    return tuple(move for move in moves if move not in commits or move in kept)
