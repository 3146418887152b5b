"""What a look at the hosts shows of rollouts: which ones their records name, and the status that a run begins with.

Commit and rollback need no journal: each host's record says which rollout it belongs to. First fleet looks at every host;
then `newest` (or the operator) chooses the rollout, and `start_status` turns what was seen into the run's first status.
"""

from collections.abc import Callable
from dataclasses import replace

from fleet.onhost.protocol import Ask, Record
from fleet.onhost.text import sentences
from fleet.rollout.host_status import Fault, FaultKind, HostStatus, KnownReason, LastVisit, Progress, explained
from fleet.rollout.own_hosts import OwnHosts
from fleet.rollout.results import leaving_out
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.transitions.lost_visits import NEVER_BEGUN


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


def start_status(
    look: RolloutStatus, rollout: str, start: Callable[[HostStatus], HostStatus], own: OwnHosts | None = None
) -> RolloutStatus:
    """The status with which a commit or rollback of `rollout` begins, each of its own hosts as `start` gives it.

    Without `own` every host of the look is one.
    """
    own = own or OwnHosts(tuple(look.hosts))
    without_doubtful = leaving_out(replace(look, rollout=rollout), own.doubtful)

    def begin(host: HostStatus) -> HostStatus:
        if host.name in own.never_begun:
            return left_alone(host, KnownReason.NOT_BEGUN.value, NEVER_BEGUN)
        return start(_doubtful(host, without_doubtful) if host.name in own.doubtful else host)

    hosts = {name: begin(look.hosts[name]) for name in own.members}
    return RolloutStatus(rollout, hosts, (tuple(hosts),), started_at=look.started_at, typed=look.typed)


def _doubtful(host: HostStatus, without: str) -> HostStatus:
    """The silent host, with the words for one that may never have been in the rollout."""
    message = sentences(host.last.message, "No journal here shows whether it is in the rollout.")
    leave_out = f"If it never was in the rollout, leave it out: {without}." if without else ""
    return replace(host, last=replace(host.last, message=message, remedy=sentences(host.last.remedy, leave_out)))


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


def not_in_inventory(name: str, ask: Ask, remedy: str) -> HostStatus:
    """A host of the rollout that this run would have to visit and can't."""
    message = "It is in the rollout, but not in the inventory."
    last = LastVisit(reason="not_in_inventory", message=message, remedy=remedy)
    fault = Fault(FaultKind.UNREACHABLE, last.reason, message, remedy, gave_up_on=ask)
    return HostStatus(name, 1, Progress.BEGUN, fault, last=last)
