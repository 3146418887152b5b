"""The looks at upgraded hosts: those of a bake, and those that renew the leases and claims of hosts that wait.

A bake looks at every host until each was looked at once after its end. While another batch is upgraded, or the commit works
through its hosts, a waiting host gets no visit, its lease would expire and it would roll itself back. So fleet looks at each
one after half of its lease, and 10 s after a look that failed.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain, islice

from fleet.onhost.protocol import Ask
from fleet.rollout.actions import Action, BeginVisit, Wait
from fleet.rollout.host_map import Moment, Question
from fleet.rollout.host_status import GIVE_UP_AFTER, HostStatus, Progress
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus, Stage

AT_ONCE = datetime.min.replace(tzinfo=UTC)
RETRY_BAKE_AFTER = timedelta(seconds=2)
RETRY_AFTER = timedelta(seconds=10)


def bake_looks(policy: Policy, status: RolloutStatus, end: datetime, now: datetime) -> tuple[Action, ...]:
    """The looks that are due in a bake that lasts until `end`, as many as may begin, and a wait for the next one.

    None are left once each host was seen after the end, or has given no answer for `GIVE_UP_AFTER`.
    """
    moment = _bake_look(policy.look_every_s, end)
    first = status.host_map.earliest(moment)
    late = [host for host in status.host_map.where(_is_silent(end)) if not _is_given_up(host, now)]
    due = chain(status.host_map.due(moment, now), (host for host in late if _retry_at(host) <= now))
    looks = islice(due, max(policy.parallel - status.busy, 0))
    waits = {at for at in (first, *map(_retry_at, late)) if at is not None and at > now}
    return (
        *(BeginVisit(host.name, Ask.BAKE, host.batch) for host in looks),
        *(Wait(at) for at in sorted(waits)[:1]),
    )


def _is_watched(host: HostStatus) -> bool:
    return host.fault is None and host.progress in (Progress.UPGRADED, Progress.COMMITTED)


def is_looked_at(host: HostStatus) -> bool:
    """Whether a look of the bake, or another visit to a host that is watched, runs now."""
    return host.running is not None and (host.running.ask is Ask.BAKE or _is_watched(host))


@lru_cache(16)
def _bake_look(every_s: float, end: datetime) -> Moment:
    """When the next look at a host is due; never where it was seen after the end, or gives no answer since."""

    def due_at(host: HostStatus) -> datetime | None:
        if host.running is not None or not _is_watched(host):
            return None
        if host.bake is None:
            return AT_ONCE
        if host.bake.looked_at >= end:
            return None
        if host.bake.unanswered_since is not None:
            return _retry_at(host)
        return min(host.bake.looked_at + timedelta(seconds=every_s), end)

    return due_at


@lru_cache(16)
def _is_silent(end: datetime) -> Question:
    """Whether an idle host gave no answer to a look after the end."""

    def is_silent(host: HostStatus) -> bool:
        bake = host.bake
        is_late = bake is not None and bake.unanswered_since is not None and bake.looked_at >= end
        return is_late and host.running is None and _is_watched(host)

    return is_silent


def _is_given_up(host: HostStatus, now: datetime) -> bool:
    since = host.bake.unanswered_since if host.bake else None
    return since is not None and now - since >= GIVE_UP_AFTER


def _retry_at(host: HostStatus) -> datetime:
    return host.bake.looked_at + RETRY_BAKE_AFTER if host.bake else AT_ONCE


def renewals(policy: Policy, status: RolloutStatus, now: datetime, *, only_leased: bool = False) -> tuple[Action, ...]:
    """A look at each idle host that is due for one, as many as may begin; if none is due, a wait for the first.

    `only_leased`: at hosts that have a lease.
    """
    may_queue = policy.lease_s > 0 and status.stage is Stage.COMMITTING
    queues = may_queue and status.host_map.count(_waits) > policy.parallel
    moment = _renewal(
        policy.renew_every_s, status.started_at or now, status.committing_at if queues else None, only_leased
    )
    first = status.host_map.earliest(moment)
    if first is None or first > now:
        return () if first is None else (Wait(first),)
    due = islice(status.host_map.due(moment, now), max(policy.parallel - status.busy, 0))
    return tuple(BeginVisit(host.name, Ask.BAKE, host.batch) for host in due)


@lru_cache(16)
def _renewal(every_s: float, status_at: datetime, queue_since: datetime | None, only_leased: bool) -> Moment:
    """When a host that waits is due for a look."""
    every = timedelta(seconds=every_s)

    def due_at(host: HostStatus) -> datetime | None:
        if not _waits(host) or (only_leased and not _has_lease(host)):
            return None
        return _due_at(host, every, status_at, queue_since)

    return due_at


def _has_lease(host: HostStatus) -> bool:
    return host.report is not None and host.report.lease_left_s is not None


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
