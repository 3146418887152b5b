"""What a look at the hosts shows of rollouts: which ones their records name, and the status that a run begins with.

Commit and rollback need no journal: each host's record says which rollout it belongs to. First fleet looks at every host;
then `newest` (or the operator) chooses the rollout, and `start_status` turns what was seen into the run's first status.
"""

from collections.abc import Callable
from dataclasses import replace

from fleet.onhost.protocol import Record
from fleet.rollout.host_status import HostStatus, Progress, explained
from fleet.rollout.rollout_status import RolloutStatus


def records(look: RolloutStatus) -> dict[str, Record]:
    """Each rollout that the hosts know, with its latest record. A rollout below an undone one counts too."""
    found: dict[str, Record] = {}
    for report in (host.report for host in look.all if host.report is not None):
        for record in (report.record, report.previous):
            if record is not None and (record.rollout not in found or record.at > found[record.rollout].at):
                found[record.rollout] = record
    return found


def newest(look: RolloutStatus) -> str | None:
    """The rollout that began last, by the hosts' records."""
    found = records(look)
    return max(found, key=lambda rollout: (found[rollout].at, rollout), default=None)


def start_status(look: RolloutStatus, rollout: str, start: Callable[[HostStatus], HostStatus]) -> RolloutStatus:
    """The status with which a commit or rollback of `rollout` begins, each host as `start` gives it."""
    hosts = {name: start(host) for name, host in look.hosts.items()}
    batches = look.batches or (tuple(hosts),)
    return RolloutStatus(rollout=rollout, hosts=hosts, batches=batches, started_at=look.started_at)


def as_reported(host: HostStatus, progress: Progress) -> HostStatus:
    """The host as the look saw it, with no visit of this run yet."""
    return HostStatus(host.name, 1, progress=progress, report=host.report, first_report=host.report)


def left_alone(host: HostStatus, reason: str, message: str) -> HostStatus:
    """The host as the look saw it, which this run does not visit."""
    return explained(as_reported(host, Progress.LEFT_ALONE), reason, message)


def without_answer(host: HostStatus) -> HostStatus:
    """The host that gave the look no answer. The rollout may have begun it."""
    last = replace(host.last, ask=None, started_at=None)
    return replace(as_reported(host, Progress.BEGUN), last=last)
