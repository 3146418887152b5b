"""Makes the task of a visit: everything that a worker needs, from the decision and the host's status."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.host import Host
from fleet.onhost.protocol import MAY_DO, PROTOCOL, Ask, Goal, Options, Phase, Request, Rest, Sender, Step
from fleet.rollout.actions import BeginVisit
from fleet.rollout.host_status import HostStatus
from fleet.rollout.policy import CLAIM_S, Policy, Rehearse
from fleet.rollout.rollout_status import RolloutStatus, Stage
from fleet.task import PLAIN, Connecting, Deadlines, HostTask

UNFENCED = frozenset({Ask.LOOK, Ask.STAGE})
"""A look or a stage carries no epoch and claims nothing, so it never takes a host from another run."""


@dataclass(frozen=True, slots=True)
class Target:
    """The release that a rollout brings. `path` is where the workers find its bytes; `version` is `None` if not read."""

    sha256: str
    size_bytes: int | None = None
    path: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class TaskBuilder:
    """Makes the tasks of one run. `target` is `None` for a commit or rollback: there the hosts' records name it.

    `reopen` lets a resume upgrade hosts that this rollout itself rolled back. `force` passes another run's claim.
    `sender` is this run, as hosts name it to other operators.
    """

    hosts: Mapping[str, Host]
    operator: str
    policy: Policy
    target: Target | None = None
    may_stage: bool = True
    reopen: bool = False
    force: bool = False
    sender: Sender = field(default_factory=Sender)
    connecting: Connecting = PLAIN
    deadlines: Deadlines = field(default_factory=Deadlines)

    def build(self, visit: BeginVisit, status: RolloutStatus) -> HostTask:
        """The task of a visit, from the host's latest report."""
        host, now = self.hosts[visit.host], status.hosts[visit.host]
        request = Request(
            protocol=PROTOCOL,
            ask=visit.ask,
            rollout=status.rollout,
            epoch=_epoch(visit.ask, now, status),
            operator=self.operator,
            goal=self._goal(visit.ask, now, status.rollout),
            allowed=self._allowed(visit.ask),
            layout=host.layout,
            options=self._options(host, visit.ask),
            left_at=_left_at(visit.ask, now),
            release_bytes=self.target.size_bytes if self.target else None,
            take_over=visit.ask is Ask.ROLLBACK,
            reopen=self.reopen,
            force=self.force,
            claim_s=0.0 if visit.ask in UNFENCED else CLAIM_S,
            lease_s=self._lease_s(status),
            sender=self.sender,
            why=_why(visit.ask, now, status),
        )
        path = self.target.path if self.target and visit.ask is Ask.STAGE and self.may_stage else None
        return HostTask(
            host, request, batch=visit.batch, release_path=path, connecting=self.connecting, deadlines=self.deadlines
        )

    def _lease_s(self, status: RolloutStatus) -> float:
        """The lease that a visit asks for, in seconds. While hosts queue for their commit it also covers the drain timeout."""
        waits_s = self.policy.drain_timeout_s if status.stage is Stage.COMMITTING else 0.0
        return self.policy.lease_s + waits_s if self.policy.lease_s else 0.0

    def _allowed(self, ask: Ask) -> tuple[Step, ...]:
        return () if ask is Ask.STAGE and not self.may_stage else MAY_DO[ask]

    def _options(self, host: Host, ask: Ask) -> Options:
        return Options(
            settle_s=self.policy.settle_s,
            drain_timeout_s=self.policy.drain_timeout_s,
            cut=self.policy.cut,
            allow=self.policy.allow,
            probes=host.probes,
            rehearse=self.policy.rehearse is Rehearse.AUTO,
            guard=self.policy.guard,
            retire_within_s=self.policy.retire_within_s if ask is Ask.COMMIT else 0.0,
            hold_package=self.policy.hold_package,
        )

    def _goal(self, ask: Ask, host: HostStatus, rollout: str) -> Goal | None:
        if ask is Ask.LOOK:
            return None
        if ask is Ask.ROLLBACK:
            before = before_sha256(host, rollout)
            return Goal(before, Rest.FINAL) if before else None
        target = self.target.sha256 if self.target else _recorded_target(host)
        return Goal(target, Rest.FINAL if ask is Ask.COMMIT else Rest.HELD) if target else None


def before_sha256(host: HostStatus, rollout: str) -> str | None:
    """What the host ran before this rollout: from its record, else from its first report."""
    record = host.report.record if host.report else None
    if record is not None and record.rollout == rollout:
        return record.before_process
    return host.first_report.running_sha256 if host.first_report else None


def _recorded_target(host: HostStatus) -> str | None:
    record = host.report.record if host.report else None
    return record.target if record else None


def _epoch(ask: Ask, host: HostStatus, status: RolloutStatus) -> int:
    """The rollout's epoch. Where this run did not choose one (commit, rollback), the highest that the host gives for it.

    The record has the epoch of the run that began here. A resume of the same rollout may have raised the host's since:
    with the record's, a later commit would count as outdated. If another rollout raised it, the host still refuses the
    request, because the epoch is equal and the rollout is not.
    """
    if ask in UNFENCED:
        return 0
    if status.epoch:
        return status.epoch
    report = host.report
    if report is None or report.record is None or report.record.rollout != status.rollout:
        return 0
    return max(report.record.epoch, report.epoch)


def _why(ask: Ask, host: HostStatus, status: RolloutStatus) -> str:
    """Why the rollout itself rolls back this one failed host; empty where the whole rollout is rolled back."""
    if ask is not Ask.ROLLBACK or status.stage is Stage.ROLLING_BACK or host.fault is None:
        return ""
    return f"it failed: {host.fault.message or host.fault.reason}"


def _left_at(ask: Ask, host: HostStatus) -> Phase | None:
    return host.past.left_at if ask in (Ask.BAKE, Ask.COMMIT) else None
