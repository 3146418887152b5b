"""What the end of a commit, a rollback or a look means for a host: an answer that was lost is looked for.

fleet repeats a commit or rollback only after a look has shown that it is still to do.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from fleet.events import Event
from fleet.onhost.protocol import Ask, Outcome, Phase, State
from fleet.rollout.host_status import (
    AT_REST_AFTER,
    GIVE_UP_AFTER,
    MAX_TRIES,
    NOT_TO_UNDO,
    RESTING,
    FaultKind,
    HostStatus,
    KnownReason,
    Progress,
    UnresolvedVisit,
    at_fault,
    explained,
)

NEVER_BEGUN = "It does not answer, and the rollout never began it."
ANOTHER_SINCE = "Rollout %s (%s) has since given the host another release."


def committed(host: HostStatus, event: Event) -> HostStatus:
    """The host after a commit."""
    match host.last.outcome:
        case Outcome.DONE:
            return host if host.held else replace(host, progress=Progress.COMMITTED)
        case Outcome.FAILED | Outcome.REFUSED if host.last.turned_back:
            return host
        case Outcome.REFUSED if host.last.known_reason is KnownReason.CLAIMED:
            return at_fault(host, FaultKind.REFUSED)
        case _ if _may_be_asked_again(host):
            lost_at = _lost_at(host, Ask.COMMIT, event.at)
            return _still_unresolved(replace(host, unresolved=unresolved(Ask.COMMIT, lost_at)), event.at)
        case _:
            return at_fault(host, FaultKind.FAILED)


def rolled_back(host: HostStatus, event: Event, rollout: str) -> HostStatus:
    """The host after a rollback. A host that was not looked at before may turn out to be none of the rollout's."""
    reason = host.last.known_reason
    is_stranger = host.first_report is None and event.report is not None and not is_ours(host, rollout)
    may_be_none_of_it = host.progress is Progress.STAGED or is_stranger
    match host.last.outcome:
        case Outcome.DONE if reason is KnownReason.OTHER_ROLLOUT and is_stranger:
            return _of_another(replace(host, progress=Progress.LEFT_ALONE, unresolved=None), rollout)
        case Outcome.DONE if reason is KnownReason.OTHER_ROLLOUT and host.progress is Progress.BEGUN:
            return replace(at_fault(host, FaultKind.FAILED), unresolved=None)
        case Outcome.REFUSED if reason is KnownReason.FOREIGN and not may_be_none_of_it:
            return replace(at_fault(host, FaultKind.FAILED), unresolved=None)
        case Outcome.DONE | Outcome.REFUSED if reason in NOT_TO_UNDO:
            return replace(host, progress=Progress.LEFT_ALONE, unresolved=None)
        case Outcome.DONE:
            return replace(host, progress=Progress.ROLLED_BACK, unresolved=None)
        case Outcome.FAILED | Outcome.REFUSED if host.last.turned_back:
            return replace(host, unresolved=None)
        case _ if host.progress is Progress.STAGED and host.last.unanswered:
            return explained(replace(host, progress=Progress.LEFT_ALONE), KnownReason.NOT_BEGUN.value, NEVER_BEGUN)
        case _ if _may_be_asked_again(host):
            lost_at = _lost_at(host, Ask.ROLLBACK, event.at)
            if host.unresolved is not None and host.unresolved.ask is Ask.UPGRADE:
                host = at_fault(host, FaultKind.UNVERIFIED)
            return _still_unresolved(replace(host, unresolved=unresolved(Ask.ROLLBACK, lost_at)), event.at)
        case Outcome.REFUSED if may_be_none_of_it and not is_ours(host, rollout):
            return replace(host, progress=Progress.LEFT_ALONE)
        case _:
            return replace(at_fault(host, FaultKind.FAILED), unresolved=None)


def _of_another(host: HostStatus, rollout: str) -> HostStatus:
    """The host that belongs to another rollout, which may have given it another release since."""
    record = host.report.record if host.report else None
    is_later = record is not None and record.rollout > rollout  # The ids begin with the time.
    if record is None or not is_later or record.state is State.ROLLED_BACK or host.phase is Phase.OLD:
        return host
    return explained(host, KnownReason.FOREIGN.value, ANOTHER_SINCE % (record.rollout, record.operator))


def looked(host: HostStatus, event: Event, rollout: str) -> HostStatus:
    """The host after a look, which settles an unresolved visit once the host has arrived or has come to rest."""
    if host.unresolved is None:
        return host
    if host.last.outcome is not Outcome.DONE or host.report is None:
        return _still_unresolved(host, event.at)
    at_rest = event.at - host.unresolved.lost_at >= AT_REST_AFTER
    match host.unresolved.ask:
        case Ask.UPGRADE if is_ours(host, rollout) and host.phase in (Phase.TRIAL, Phase.NEW):
            return _settled(replace(host, progress=Progress.UPGRADED))
        case Ask.UPGRADE if at_rest and host.phase is Phase.OLD:
            why = "The connection was lost during the upgrade, and the host went back by itself."
            return at_fault(explained(_settled(host), "went_back", why), FaultKind.FAILED)
        case Ask.COMMIT if host.phase is Phase.NEW:
            return _settled(replace(host, progress=Progress.COMMITTED))
        case Ask.COMMIT if at_rest and host.phase in RESTING:
            return _to_ask_again(host, Ask.COMMIT)
        case Ask.ROLLBACK:
            return _to_ask_again(host, Ask.ROLLBACK)
        case Ask.LOOK:
            return replace(host, unresolved=None)
        case _:
            return _still_unresolved(host, event.at)


def is_ours(host: HostStatus, rollout: str) -> bool:
    """Whether the host's record is of this rollout, so that something was begun there."""
    return host.report is not None and host.report.record is not None and host.report.record.rollout == rollout


def _may_be_asked_again(host: HostStatus) -> bool:
    """Whether the visit got no answer, or could not begin because another one still works on the host."""
    is_busy = host.last.outcome is Outcome.REFUSED and host.last.known_reason is KnownReason.BUSY
    return host.last.unanswered or is_busy


def unresolved(ask: Ask, lost_at: datetime) -> UnresolvedVisit:
    """A visit that was just lost. fleet looks at the host a second later."""
    return UnresolvedVisit(ask, lost_at, lost_at + timedelta(seconds=1))


def _lost_at(host: HostStatus, ask: Ask, at: datetime) -> datetime:
    """Since when the result of the visit is unknown."""
    return host.unresolved.lost_at if host.unresolved is not None and host.unresolved.ask is ask else at


def _still_unresolved(host: HostStatus, at: datetime) -> HostStatus:
    """The host after a try that showed nothing: fleet asks it again later, or gives up."""
    visit = host.unresolved
    if visit is None:
        return host
    if at - visit.lost_at >= GIVE_UP_AFTER:
        never_begun = visit.ask is Ask.ROLLBACK and host.last.outcome is Outcome.UNREACHABLE
        return _given_up(host, visit.ask, FaultKind.UNREACHABLE if never_begun else FaultKind.UNVERIFIED)
    tries = visit.tries + 1
    return replace(host, unresolved=replace(visit, tries=tries, next_at=at + timedelta(seconds=1 + tries)))


def _given_up(host: HostStatus, ask: Ask, kind: FaultKind) -> HostStatus:
    host = at_fault(replace(host, unresolved=None), kind)
    return replace(host, fault=host.fault and replace(host.fault, gave_up_on=ask))


def _settled(host: HostStatus) -> HostStatus:
    """The host whose lost visit turned out to have left it in the phase that it shows now."""
    return replace(host, unresolved=None, past=replace(host.past, left_at=host.phase))


def _to_ask_again(host: HostStatus, ask: Ask) -> HostStatus:
    """The host is at rest and the visit is still to do: fleet asks once more, up to `MAX_TRIES` times."""
    if host.visited(ask) < MAX_TRIES:
        return replace(host, unresolved=None)
    why = f"The connection was lost {MAX_TRIES} times during the {ask.value}."
    host = _given_up(explained(host, "link_lost", why), ask, FaultKind.UNVERIFIED)
    return replace(host, fault=host.fault and replace(host.fault, kind=FaultKind.UNVERIFIED))
