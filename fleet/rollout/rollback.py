"""Decides what `fleet rollback` does next: every host of a rollout back to what it ran before, all at once. Pure.

The rollback also visits hosts that the rollout had not begun. The visit raises their epoch, so an upgrade that still runs
elsewhere can't begin there afterwards. Each host is judged alone: one dead host does not block the others.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from functools import cache

from fleet.events import EventType, Result
from fleet.onhost.protocol import Ask, Phase, State
from fleet.onhost.text import counted
from fleet.rollout import results
from fleet.rollout.actions import Action, Emit, Finish
from fleet.rollout.from_hosts import as_reported, left_alone, records, start_status, without_answer
from fleet.rollout.going_back import needs_rollback, rollback_visits
from fleet.rollout.host_map import Question
from fleet.rollout.host_status import HostStatus, KnownReason, Progress, UnresolvedVisit
from fleet.rollout.own_hosts import NOT_JOURNALED, JournaledHosts, OwnHosts
from fleet.rollout.rollout_status import RolloutStatus, Stage
from fleet.rollout.transitions.lost_visits import ANOTHER_SINCE


def rollback_status(look: RolloutStatus, rollout: str, own: OwnHosts | None = None) -> RolloutStatus:
    """The status with which the rollback of `rollout` on its `own` hosts begins; without them, on every host of the look."""
    began = records(look).get(rollout)

    def start(host: HostStatus) -> HostStatus:
        if host.report is None:
            return _maybe_begun(host, look)
        record = host.report.record
        if record is not None and record.rollout == rollout:
            return as_reported(host, Progress.BEGUN)
        if record is not None and began is not None and (record.state is State.ROLLED_BACK or _is_old(host)):
            before = host.report.previous
            in_force = before is not None and before.rollout == rollout
            return as_reported(host, Progress.BEGUN if in_force else Progress.STAGED)
        if record is not None and began is not None and record.at > began.at:
            return left_alone(host, KnownReason.FOREIGN.value, ANOTHER_SINCE % (record.rollout, record.operator))
        return as_reported(host, Progress.STAGED)

    return start_status(look, rollout, start, own and _with_fenced(own))


def unseen_status(rollout: str, names: Iterable[str], journaled: JournaledHosts = NOT_JOURNALED) -> RolloutStatus:
    """The status with which a rollback begins that looks at no host first: each of these hosts is asked at once.

    The journal's last reports, if it has any, give the order only. What the host did or did not begin, it says itself.
    """
    hosts = {name: _unseen(name, journaled) for name in names}
    return RolloutStatus(rollout, hosts, (tuple(hosts),))


def _unseen(name: str, journaled: JournaledHosts) -> HostStatus:
    progress = Progress.STAGED if name in journaled.never_begun else Progress.BEGUN
    return HostStatus(name, 1, progress, report=journaled.reports.get(name))


def _with_fenced(own: OwnHosts) -> OwnHosts:
    """Where nobody knows all hosts of the rollout, any host may be one that it is about to begin."""
    return own if own.is_whole else replace(own, members=(*own.members, *own.outside))


def _is_old(host: HostStatus) -> bool:
    """Whether the host runs what it ran before the rollout that its record names."""
    return host.report is not None and host.report.phase is Phase.OLD


def _maybe_begun(host: HostStatus, look: RolloutStatus) -> HostStatus:
    """The host gave no answer and may have begun, so fleet looks at it again before it asks it to go back."""
    at = look.started_at or datetime.min
    return replace(without_answer(host), unresolved=UnresolvedVisit(Ask.ROLLBACK, at, at))


def decide_rollback(parallel: int, status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
    """A rollback visit to every host that belongs to the rollout."""
    if status.stopping:
        return () if status.busy else (results.stopped(status),)
    if status.stage is Stage.STARTING:
        return (Emit(EventType.ROLLBACK_STARTED, message=f"roll back rollout {status.rollout}"),)
    pending = _pending(status.rollout)
    if status.busy or status.host_map.count(pending):
        return rollback_visits(pending, status, parallel, now)
    return (_rolled_back(status),)


@cache
def _pending(rollout: str) -> Question:
    """Whether a host is still to be asked, in a rollback of this rollout."""

    def is_pending(host: HostStatus) -> bool:
        return (needs_rollback(host) or _needs_fence(host)) and not _is_of_another(host, rollout)

    return is_pending


def _is_of_another(host: HostStatus, rollout: str) -> bool:
    """Whether a host that answered late turned out to belong to another rollout. The rollback leaves it alone."""
    record = host.report.record if host.report else None
    return host.last.ask is Ask.LOOK and record is not None and record.rollout != rollout


def _needs_fence(host: HostStatus) -> bool:
    """Whether the host never began and does not know yet that the rollout is undone."""
    return host.progress is Progress.STAGED and host.fault is None and not host.visited(Ask.ROLLBACK)


def _rolled_back(status: RolloutStatus) -> Finish:
    back = [host for host in status.all if host.progress is Progress.ROLLED_BACK]
    stuck = [host for host in status.all if host.fault is not None or host.needs_person]
    foreign = [host for host in status.all if _is_foreign(host, status.rollout) and host not in stuck]
    strange = [host for host in stuck if host.last.known_reason is KnownReason.FOREIGN]
    others = len(status.hosts) - len(back) - len(stuck) - len(foreign)
    before = sum(host.was_back_before for host in back)
    earlier = f", {before} of them before this command" if before else ""
    text = f"{counted(len(back))}{earlier}{f', {counted(others)} not begun' if others else ''}."
    if foreign:
        text += f" Left alone, FOREIGN: {results.names(foreign)}. See {results.see_status(status)}."
    if not stuck:
        return Finish(Result.ROLLED_BACK, results.OK, f"Rolled back rollout {status.rollout}: {text}")
    listed = f" FOREIGN: {results.names(strange)}." if strange else ""
    text = (
        f"Not rolled back: {results.names(stuck)}; the reasons are above.{listed} Rolled back: {text} "
        f"To try again: {results.line(status, 'rollback')}. It changes no host that is back."
    )
    return Finish(Result.HALTED, results.PERSON, text)


def _is_foreign(host: HostStatus, rollout: str) -> bool:
    return host.last.known_reason is KnownReason.FOREIGN or _is_of_another(host, rollout)
