"""Decides what `fleet commit` does next: retire the held old masters of a rollout on all its hosts. Pure."""

from datetime import datetime

from fleet.events import EventType, Result
from fleet.onhost.protocol import Ask, Phase, State
from fleet.rollout import results
from fleet.rollout.actions import Action, Emit, Finish, visits_to, within_parallel
from fleet.rollout.from_hosts import as_reported, left_alone, start_status, without_answer
from fleet.rollout.host_status import FaultKind, HostStatus, KnownReason, Progress, at_fault, explained
from fleet.rollout.own_hosts import OwnHosts
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus, Stage
from fleet.rollout.upgrade import needs_commit
from fleet.rollout.watching import renewals, with_room_for_renewals


def commit_status(look: RolloutStatus, rollout: str, own: OwnHosts | None = None) -> RolloutStatus:
    """The status with which the commit of `rollout` on its `own` hosts begins; without them, on every host of the look."""

    def start(host: HostStatus) -> HostStatus:
        if host.report is None:
            return at_fault(without_answer(host), FaultKind.UNREACHABLE)
        record = host.report.record
        if record is None or record.rollout != rollout:
            return left_alone(host, KnownReason.OTHER_ROLLOUT.value, "The rollout did not begin this host.")
        if record.state is State.ROLLED_BACK or host.phase is Phase.OLD:
            forward = look.typed.other("upgrade", "RELEASE").quoted
            why = f"The host is {host.report.phase.value}: it went back. Only a new {forward} moves it forward."
            back = explained(as_reported(host, Progress.ROLLED_BACK), "went_back", why)
            return at_fault(back, FaultKind.FAILED)
        if record.state is State.COMMITTED and host.phase is Phase.NEW:
            return as_reported(host, Progress.COMMITTED)
        return as_reported(host, Progress.UPGRADED)

    return start_status(look, rollout, start, own)


def decide_commit(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    """Commits to all hosts that hold an old master. A host that must queue and has a lease gets it renewed."""
    if status.stopping:
        return () if status.busy else (results.stopped(status),)
    if status.stage is Stage.STARTING:
        return (Emit(EventType.COMMIT_STARTED, message=f"commit rollout {status.rollout}"),)
    if status.busy or status.host_map.count(needs_commit):
        free = policy.parallel - status.busy
        commits = visits_to([needs_commit], Ask.COMMIT, status, now, free + 1)
        renewed = renewals(policy, status, now, only_leased=True)
        return within_parallel((*renewed, *with_room_for_renewals(policy, status, commits)), status, policy.parallel)
    return (_committed(status),)


def _committed(status: RolloutStatus) -> Finish:
    in_use = [host for host in status.all if host.in_use]
    if in_use and not any(host.visited(Ask.COMMIT) and host.fault is None for host in status.all):
        return results.held_by_others(status, in_use)
    failed = [host for host in status.all if host.fault is not None]
    waiting = [host for host in status.all if host.drain_pending]
    done = [host for host in status.all if host.progress is Progress.COMMITTED]
    code = results.OK if not failed and not waiting else results.HALTED
    code = results.PERSON if any(host.needs_person for host in status.all) else code
    committed = f"{results.some_of(len(done), status)} of rollout {status.rollout}"
    left = results.left_to_hosts(status)
    nothing = f"Nothing to commit: rollout {status.rollout} has begun no host."
    good = f"Committed: {committed}." if done else "" if left else nothing
    parts = [
        f"Not finished: {committed} are committed." if code else good,
        f"Not committed: {results.names(failed)}; the reasons and what to type are above." if failed else "",
        left,
        results.drain_pending(status, waiting),
    ]
    text = " ".join(filter(None, parts)) + results.needs_person(status)
    return Finish(Result.HALTED if code else Result.COMPLETED, code, text)
