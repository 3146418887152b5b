"""Which hosts a rollback asks, in which order, and how many at once. Pure.

Users of a held or half upgraded host meet the bad release, and two signals end that, so these hosts come first; then the
committed ones, then those of which nothing is known. A host is asked for the first time before a silent one is tried again.
"""

from datetime import datetime, timedelta
from functools import cache

from fleet.onhost.protocol import Ask, Phase
from fleet.rollout.actions import Action, visits_to, within_parallel
from fleet.rollout.host_map import Question
from fleet.rollout.host_status import HostStatus, Progress, is_running
from fleet.rollout.rollout_status import RolloutStatus

SILENT_AFTER = timedelta(seconds=3)
"""A visit that has told of no step for so long has probably not reached its host."""
AFTER_COMMIT = frozenset({Phase.NEW, Phase.RETIRING})
LAST_RANK = 3
NOTHING_SERVES = frozenset({None, Phase.OLD, Phase.DOWN, Phase.FOREIGN})


def needs_rollback(host: HostStatus) -> bool:
    """Whether the host is still to be rolled back. A host that answered that its rollback failed is not asked again."""
    if not host.begun or host.progress is Progress.ROLLED_BACK or host.gave_up_on(Ask.ROLLBACK):
        return False
    return host.last.ask is not Ask.ROLLBACK or host.unresolved is not None


def rollback_visits(pending: Question, status: RolloutStatus, parallel: int, now: datetime) -> tuple[Action, ...]:
    """The visits that may begin now. A visit that does not reach its host takes the place of no other one.

    So a host that is down costs the hosts behind it no more than `SILENT_AFTER`. At most `most_visits` run at a time.
    """
    if status.busy >= parallel:
        silent = sum(_is_silent(host, now) for host in status.host_map.where(is_running))
        parallel = min(parallel + silent, most_visits(parallel))
    in_order = [_ranked(pending, rank) for rank in range(LAST_RANK + 1)]
    visits = visits_to(in_order, Ask.ROLLBACK, status, now, parallel - status.busy)
    return within_parallel(visits, status, parallel)


def most_visits(parallel: int) -> int:
    """The most visits that run at a time, with those that do not reach their hosts."""
    return 2 * parallel


@cache
def _ranked(pending: Question, rank: int) -> Question:
    return lambda host: pending(host) and _rank(host) == rank


def _rank(host: HostStatus) -> int:
    if not host.begun:
        return LAST_RANK
    if host.phase in AFTER_COMMIT:
        return 1
    return 2 if host.phase in NOTHING_SERVES else 0


def _is_silent(host: HostStatus, now: datetime) -> bool:
    """Whether a visit of the rollback runs there and has probably not reached the host."""
    running = host.running
    if running is None or running.ask not in (Ask.ROLLBACK, Ask.LOOK):
        return False
    return running.step is None and now - running.started_at >= SILENT_AFTER
