"""Looks that renew the leases and claims of hosts that wait for their batch's gate or for the commit.

A bake looks at every host anyway. While another batch is upgraded, or the commit works through its hosts, a waiting host
gets no visit, its lease would expire and it would roll itself back. So fleet looks at each one after half of its lease,
and 10 s after a look that failed.
"""

from datetime import datetime, timedelta

from fleet.onhost.protocol import Ask
from fleet.rollout.actions import Action, BeginVisit, Wait
from fleet.rollout.host_status import HostStatus, Progress
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus, Stage

RETRY_AFTER = timedelta(seconds=10)


def renewals(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    """A look at every idle host that is due for one, and a wait for each of the others."""
    every = timedelta(seconds=policy.renew_every_s)
    waiting = [host for host in status.all if _waits(host)]
    queues = policy.lease_s > 0 and status.stage is Stage.COMMITTING and len(waiting) > policy.parallel
    queue_since = status.committing_at if queues else None
    found = [(host, _due_at(host, every, status.started_at or now, queue_since)) for host in waiting]
    due = tuple(BeginVisit(host.name, Ask.BAKE, host.batch) for host, at in found if at <= now)
    return due + tuple(Wait(at) for _, at in found if at > now)


def _due_at(host: HostStatus, every: timedelta, status_at: datetime, queue_since: datetime | None) -> datetime:
    """When to look at the host. A host that queues for its commit is due at once, because its lease must outlast the queue."""
    renewed_at, visited_at = host.past.renewed_at, host.last.started_at
    if queue_since is not None and (renewed_at is None or renewed_at < queue_since):
        return max(queue_since, (visited_at or queue_since) + min(RETRY_AFTER, every))
    if renewed_at is None and host.report is not None and host.report.lease_left_s is not None:
        every = min(every, timedelta(seconds=host.report.lease_left_s / 2))  # an earlier run's lease, partly used up
    renewed_at = renewed_at or status_at
    return max(renewed_at + every, (visited_at or renewed_at) + min(RETRY_AFTER, every))


def _waits(host: HostStatus) -> bool:
    """Whether the host is upgraded or held, idle, and not yet asked to commit."""
    is_idle = host.running is None and host.unresolved is None and host.fault is None
    is_held = host.progress is Progress.UPGRADED or (host.progress is Progress.BEGUN and host.held)
    return is_idle and is_held and not host.visited(Ask.COMMIT)


def with_room_for_renewals(policy: Policy, status: RolloutStatus, actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """The actions, with so few commits that one of the `parallel` visits stays free for renewals.

    A commit may wait long for old connections. Meanwhile the leases of the hosts that queue behind it must not expire.
    """
    commits = [action for action in actions if isinstance(action, BeginVisit) and action.ask is Ask.COMMIT]
    room = max(policy.parallel - 1 - status.busy, 0)
    if not policy.lease_s or policy.parallel == 1 or len(commits) <= room + 1:
        return actions
    kept = commits[:room]
    return tuple(action for action in actions if action not in commits or action in kept)
