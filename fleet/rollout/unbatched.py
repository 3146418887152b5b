"""What the commands without batches do next: check, status, commit and rollback. Pure, like `upgrade`.

Commit and rollback need no journal: the hosts' records say which rollout they belong to. First every host is looked
at, `newest` chooses the rollout, and `undoing` or `committing` makes of what was seen the status in which the errand
begins. Rollback goes to every host that a look could not rule out, begun or not: one that had not begun is fenced, so
that an upgrade that still runs elsewhere can't begin there afterwards.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from fleet.events import EventType, Result
from fleet.onhost.protocol import Ask, Phase, Record, State
from fleet.onhost.text import counted
from fleet.rollout import results
from fleet.rollout.actions import Announce, Finish, Move, Visit, ask_all, bounded
from fleet.rollout.host_status import Course, Doubt, Fault, HostStatus, with_cause
from fleet.rollout.lease_renewal import renewals, spared
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus, Stage
from fleet.rollout.upgrade import wants_back, wants_commit


def decide_ask(
    ask: Ask, parallel: int, status: RolloutStatus, now: datetime, *, is_staged: bool = True
) -> tuple[Move, ...]:
    """One visit to each host, that changes nothing that runs: `check` (stage) and `status` (look)."""
    if status.stopping:
        return () if status.busy else (results.stopped(status),)
    if status.stage is Stage.STARTING:
        return (Announce(EventType.STAGE_STARTED, message=f"ask {counted(len(status.hosts))}"),)
    unasked = [host for host in status.all if not host.visited(ask)]
    if unasked or status.busy:
        return bounded(ask_all(unasked, ask, now), status, parallel)
    return (_checked(status, is_staged) if ask is Ask.STAGE else _answered(status),)


def _checked(status: RolloutStatus, is_staged: bool) -> Finish:
    if status.faults:
        return results.refused(status)
    count = counted(len(status.hosts))
    if is_staged:
        return Finish(Result.COMPLETED, results.OK, f"{count} can be upgraded.")
    untested = (
        "not tested, unless the host keeps the release already: whether it runs there and takes the configuration"
    )
    return Finish(Result.COMPLETED, results.OK, f"No refusal found on {count}; {untested}.")


def _answered(status: RolloutStatus) -> Finish:
    silent = [host for host in status.all if host.report is None]
    if silent:
        text = f"{counted(len(silent))} of {len(status.hosts)} did not answer: {results.names(silent)}."
        return Finish(Result.HALTED, results.PERSON, text)
    return Finish(Result.COMPLETED, results.OK, f"{counted(len(status.hosts))} answered.")


def records(looked: RolloutStatus) -> dict[str, Record]:
    """Each rollout that the hosts know, with its latest record; also the one that is in force below an undone one."""
    found: dict[str, Record] = {}
    for report in (host.report for host in looked.all if host.report is not None):
        for record in (report.record, report.previous):
            if record is not None and (record.rollout not in found or record.at > found[record.rollout].at):
                found[record.rollout] = record
    return found


def newest(looked: RolloutStatus) -> str | None:
    """The rollout that began last, by the hosts' records."""
    found = records(looked)
    return max(found, key=lambda rollout: (found[rollout].at, rollout), default=None)


def undoing(looked: RolloutStatus, rollout: str) -> RolloutStatus:
    """The status with which the rollback of `rollout` begins."""
    began = records(looked).get(rollout)

    def course(host: HostStatus) -> HostStatus:
        if host.report is None:
            return _unknown(host, looked)
        record = host.report.record
        if record is not None and record.rollout == rollout:
            return _fresh(host, Course.BEGUN)
        if record is not None and began is not None and (record.state is State.ROLLED_BACK or _is_back(host)):
            before = host.report.previous
            in_force = before is not None and before.rollout == rollout
            return _fresh(host, Course.BEGUN if in_force else Course.STAGED)
        if record is not None and began is not None and record.at > began.at:
            why = f"the host has since been given another release by rollout {record.rollout} ({record.operator})"
            return _left(host, "foreign", why)
        return _fresh(host, Course.STAGED)

    return _seeded(looked, rollout, course)


def _is_back(host: HostStatus) -> bool:
    """Whether the rollout that the host's record names did not come to stay there: the host is as before it."""
    return host.report is not None and host.report.phase is Phase.OLD


def committing(looked: RolloutStatus, rollout: str) -> RolloutStatus:
    """The status with which the commit of `rollout` begins."""

    def course(host: HostStatus) -> HostStatus:
        if host.report is None:
            return with_cause(replace(_silent(host), fault=Fault.UNREACHABLE))
        record = host.report.record
        if record is None or record.rollout != rollout:
            return _left(host, "other_rollout", "not of this rollout")
        if record.state is State.ROLLED_BACK or host.phase is Phase.OLD:
            why = f"the host is {host.report.phase.value}: it went back, and only an upgrade moves it forward"
            return with_cause(replace(_left(host, "went_back", why), fault=Fault.FAILED, course=Course.BACK))
        if record.state is State.COMMITTED and host.phase is Phase.NEW:
            return _fresh(host, Course.COMMITTED)
        return _fresh(host, Course.UPGRADED)

    return _seeded(looked, rollout, course)


def _seeded(looked: RolloutStatus, rollout: str, course: Callable[[HostStatus], HostStatus]) -> RolloutStatus:
    hosts = {name: course(host) for name, host in looked.hosts.items()}
    batches = looked.batches or (tuple(hosts),)
    return RolloutStatus(rollout=rollout, hosts=hosts, batches=batches, started_at=looked.started_at)


def _fresh(host: HostStatus, course: Course) -> HostStatus:
    """The host as the look saw it, with nothing done yet."""
    return HostStatus(host.name, 1, course=course, report=host.report, first=host.report)


def _left(host: HostStatus, reason: str, message: str) -> HostStatus:
    return replace(_fresh(host, Course.LEFT_ALONE), reason=reason, message=message)


def _unknown(host: HostStatus, looked: RolloutStatus) -> HostStatus:
    """The look got no answer: the host may have begun, so it is asked again before it is told to go back."""
    at = looked.started_at or datetime.min
    return replace(_silent(host), doubt=Doubt(Ask.ROLLBACK, at, at))


def _silent(host: HostStatus) -> HostStatus:
    told = replace(_fresh(host, Course.BEGUN), reason=host.reason, message=host.message, remedy=host.remedy)
    return replace(told, outcome=host.outcome)


def decide_rollback(parallel: int, status: RolloutStatus, now: datetime) -> tuple[Move, ...]:
    """Every host that belongs to the rollout back, all at once, each judged alone."""
    if status.stopping:
        return () if status.busy else (results.stopped(status),)
    if status.stage is Stage.STARTING:
        return (Announce(EventType.ROLLBACK_STARTED, message=f"take back rollout {status.rollout}"),)
    mine = [host for host in status.all if not _is_of_another(host, status.rollout)]
    pending = [host for host in mine if wants_back(host) or _wants_fence(host)]
    if pending or status.busy:
        return bounded(ask_all(pending, Ask.ROLLBACK, now), status, parallel)
    return (_undone(status),)


def _is_of_another(host: HostStatus, rollout: str) -> bool:
    """Whether a host that only now answered turned out to have been given another rollout: it is left alone."""
    record = host.report.record if host.report else None
    return host.asked is Ask.LOOK and record is not None and record.rollout != rollout


def _wants_fence(host: HostStatus) -> bool:
    """Whether the host never began, and is still to be told that the rollout is undone."""
    return host.course is Course.STAGED and host.fault is None and not host.visited(Ask.ROLLBACK)


def _undone(status: RolloutStatus) -> Finish:
    back = [host for host in status.all if host.course is Course.BACK]
    stuck = [host for host in status.all if host.fault is not None or host.needs_person]
    foreign = [host for host in status.all if host.reason == "foreign" or _is_of_another(host, status.rollout)]
    others = len(status.hosts) - len(back) - len(stuck) - len(foreign)
    before = sum(host.was_back for host in back)
    already = f", {before} {'was' if before == 1 else 'were'} back already" if before else ""
    text = f"{counted(len(back) - before)} back{already}, {others} had not begun."
    if foreign:
        text += f" Left alone, FOREIGN: {results.names(foreign)}."
    if not stuck:
        return Finish(Result.ROLLED_BACK, results.OK, f"Rollout {status.rollout} is undone: {text}")
    text = (
        f"Rollout {status.rollout}: {text} Not back: {results.names(stuck)}; see why above, "
        "then run the same rollback again: it changes nothing where it is done."
    )
    return Finish(Result.HALTED, results.PERSON, text)


def decide_commit(policy: Policy, status: RolloutStatus, now: datetime) -> tuple[Move, ...]:
    """The held old masters of the rollout retired; who must wait keeps the lease that it has."""
    if status.stopping:
        return () if status.busy else (results.stopped(status),)
    if status.stage is Stage.STARTING:
        return (Announce(EventType.COMMIT_STARTED, message=f"commit rollout {status.rollout}"),)
    pending = [host for host in status.all if wants_commit(host)]
    if pending or status.busy:
        commits = spared(policy, status, ask_all(pending, Ask.COMMIT, now))
        kept = tuple(move for move in renewals(policy, status, now) if _has_lease(move, status))
        return bounded((*kept, *commits), status, policy.parallel)
    return (_all_committed(status),)


def _has_lease(move: Move, status: RolloutStatus) -> bool:
    report = status.hosts[move.host].report if isinstance(move, Visit) else None
    return report is not None and report.lease_left_s is not None


def _all_committed(status: RolloutStatus) -> Finish:
    held = [host for host in status.all if host.is_anothers]
    if held and not any(host.visited(Ask.COMMIT) and host.fault is None for host in status.all):
        return results.anothers(held)
    bad = [host for host in status.all if host.fault is not None]
    waiting = [host for host in status.all if host.drain_pending]
    done = [host for host in status.all if host.course is Course.COMMITTED]
    text = f"Rollout {status.rollout}: {counted(len(done))} of {len(status.hosts)} committed."
    if waiting:
        text += f" Old connections still drain on {results.names(waiting)}: commit again later, or with --cut."
    if bad:
        text += f" Not committed: {results.names(bad)}; see why above."
    code = results.OK if not bad and not waiting else results.HALTED
    code = results.PERSON if any(host.needs_person for host in status.all) else code
    return Finish(Result.HALTED if code else Result.COMPLETED, code, text)
