"""What an event of one host means for it: above all the end of a visit, by what was asked.

A visit whose end is not known leaves a doubt, which only a look at the host ends; nothing is asked for twice unless a
look has shown in between that it is still to do.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from fleet.events import ALARMS, Event, EventType
from fleet.onhost.protocol import Ask, Finding, Outcome, Phase, Severity, State
from fleet.rollout.gate import Verdict, judge
from fleet.rollout.host_status import (
    ARRIVED,
    BUSY,
    CLAIMED,
    GIVE_UP,
    LEFT_ALONE,
    MOST_TRIES,
    OTHER_ROLLOUT,
    RESTING,
    RUNS_IT,
    SETTLED,
    TAKEN_OVER,
    TURNED_BACK,
    Cause,
    Course,
    Doubt,
    Fault,
    HostStatus,
    with_cause,
)


def after(host: HostStatus, event: Event, rollout: str) -> HostStatus:
    """The host after one more event of its own."""
    return with_cause(_after(host, event, rollout))


def _after(host: HostStatus, event: Event, rollout: str) -> HostStatus:
    match event.type:
        case EventType.HOST_KNOWN:
            return _known(host, event)
        case EventType.VISIT_STARTED:
            return _begin(host, event)
        case EventType.VISIT_ENDED:
            return _end(host, event, rollout)
        case EventType.STEP_STARTED:
            return replace(host, step=event.step)
        case EventType.STEP_ENDED:
            return replace(host, step=None)
        case EventType.FINDING:
            return replace(host, findings=(*host.findings, finding(event)))
        case _:
            return host


def finding(event: Event) -> Finding:
    """The finding that a `FINDING` event tells."""
    return Finding(
        reason=event.reason or "",
        severity=Severity(event.data.get("severity", Severity.REFUSAL.value)),
        message=event.message,
        remedy=str(event.data.get("remedy", "")),
        overridable=bool(event.data.get("overridable", False)),
    )


def _known(host: HostStatus, event: Event) -> HostStatus:
    """The host as it was when the run began; `opening` wrote it down."""
    data = event.data
    cause, doubt = data["cause"], data["doubt"]
    return replace(
        host,
        course=Course(data["course"]),
        fault=Fault(data["fault"]) if data["fault"] else None,
        cause=Cause(*cause) if cause else None,
        doubt=_doubt_of(*doubt) if doubt else None,
        outcome=event.outcome,
        reason=event.reason,
        message=event.message,
        remedy=data["remedy"],
        report=event.report,
        first=event.report if data["was_first"] else None,
        proven=data["proven"],
    )


def _doubt_of(ask: str, lost_at: str, next_at: str, tries: int) -> Doubt:
    return Doubt(Ask(ask), datetime.fromisoformat(lost_at), datetime.fromisoformat(next_at), tries)


def _begin(host: HostStatus, event: Event) -> HostStatus:
    ask = Ask(event.data["ask"])
    visits = {**host.visits, ask: host.visited(ask) + 1}
    return replace(host, doing=ask, since=event.at, step=None, visits=visits)


def _end(host: HostStatus, event: Event, rollout: str) -> HostStatus:
    """The host after a visit: first what was said, then what it means by what was asked."""
    ask = Ask(event.data["ask"])
    report = event.report
    host = replace(host, outcome=event.outcome, **({} if _tells_less(host, event, ask) else _words(event)))
    host = replace(
        host,
        doing=None,
        step=None,
        asked=ask,
        report=report or host.report,
        first=host.first or report,
        left_at=report.phase if report and _steers(ask) else host.left_at,
        renewed_at=host.since if report and ask in RENEWING else host.renewed_at,
        took_s=host.took_s + (event.took_s or 0.0 if ask in MOVING else 0.0),
    )
    if event.reason == TAKEN_OVER:
        begun = ask is Ask.UPGRADE and _is_ours(host, rollout)
        return replace(host, doubt=None, course=Course.BEGUN if begun else host.course)
    match ask:
        case Ask.STAGE:
            return _staged(host, rollout)
        case Ask.UPGRADE:
            return _upgraded(host, event, rollout)
        case Ask.BAKE:
            return _baked(host, event.at)
        case Ask.COMMIT:
            return _committed(host, event)
        case Ask.ROLLBACK:
            return _rolled_back(host, event)
        case Ask.LOOK:
            return _looked(host, event, rollout)
        case Ask.UNLOCK | Ask.LEASE:
            return host


RENEWING = (Ask.UPGRADE, Ask.BAKE)
"""The visits whose last act renews the lease and the claim."""

MOVING = (Ask.UPGRADE, Ask.COMMIT, Ask.ROLLBACK)
"""The visits that move a host; only their time is counted."""


def _steers(ask: Ask) -> bool:
    """Whether a visit moves the host on purpose, so that what it then shows is where this rollout left it."""
    return ask in (Ask.UPGRADE, Ask.COMMIT)


def _staged(host: HostStatus, rollout: str) -> HostStatus:
    match host.outcome:
        case Outcome.DONE if was_taken_back(host, rollout):
            return replace(host, course=Course.LEFT_ALONE, reason="rolled_back", message=TAKEN_BACK)
        case Outcome.DONE:
            return replace(host, course=_found_at(host, rollout))
        case Outcome.REFUSED | Outcome.FAILED if host.reason in TURNED_BACK:
            return host
        case Outcome.REFUSED | Outcome.FAILED:
            return replace(host, fault=Fault.REFUSED)
        case _:
            return replace(host, fault=Fault.UNREACHABLE)


TAKEN_BACK = "an operator took it back from this rollout; only a new upgrade moves it forward"


def was_taken_back(host: HostStatus, rollout: str) -> bool:
    """Whether an operator took the host back from this rollout. One that failed, or whose lease ran out, is tried again."""
    if host.report is None or rollout not in host.report.undone:
        return False
    record = host.report.record
    return record is None or record.rollout != rollout or not record.why


def _found_at(host: HostStatus, rollout: str) -> Course:
    """Where a host that may be upgraded stands: a resumed rollout finds those that it had begun, and goes on there."""
    record = host.report.record if host.report else None
    if record is None or record.rollout != rollout or record.state is State.ROLLED_BACK or host.phase is Phase.OLD:
        return Course.ALREADY if host.reason == RUNS_IT else Course.STAGED
    if host.phase is not Phase.NEW or (host.report and host.report.unconfirmed):
        return Course.BEGUN
    return Course.COMMITTED if record.state is State.COMMITTED else Course.UPGRADED


def _is_ours(host: HostStatus, rollout: str) -> bool:
    """Whether the host's record is of this rollout: something was begun there."""
    return host.report is not None and host.report.record is not None and host.report.record.rollout == rollout


def _upgraded(host: HostStatus, event: Event, rollout: str) -> HostStatus:
    match host.outcome:
        case Outcome.DONE if host.reason == RUNS_IT:
            return replace(host, course=Course.ALREADY)
        case Outcome.DONE if host.phase in ARRIVED:
            return replace(host, course=Course.UPGRADED)
        case Outcome.REFUSED | Outcome.FAILED if host.reason in TURNED_BACK:
            return replace(host, course=_where_turned(host, rollout))
        case Outcome.REFUSED if (
            host.reason == BUSY and _is_ours(host, rollout) and host.visited(Ask.UPGRADE) < MOST_TRIES
        ):
            return host  # a step script of the interrupted run is still at work there; the host waits for it itself
        case Outcome.REFUSED if not _is_ours(host, rollout):
            return replace(host, fault=Fault.REFUSED)
        case Outcome.UNREACHABLE:
            return replace(host, fault=Fault.UNREACHABLE)
        case Outcome.LINK_LOST:
            return replace(host, course=Course.BEGUN, doubt=doubt(Ask.UPGRADE, event.at))
        case _:
            return replace(host, course=Course.BEGUN, fault=Fault.FAILED)


def _where_turned(host: HostStatus, rollout: str) -> Course:
    """How far a host got whose operator turned back: that is no fault of the host."""
    if not _is_ours(host, rollout):
        return host.course
    if host.phase in ARRIVED:
        return Course.UPGRADED
    return Course.BACK if host.phase is Phase.OLD else Course.BEGUN


def _baked(host: HostStatus, at: datetime) -> HostStatus:
    verdict = judge(host.outcome, host.report)
    erring_since = (host.erring_since or at) if verdict is Verdict.ERROR else None
    host = replace(host, verdict=verdict, looked_at=host.since, erring_since=erring_since)
    return replace(host, fault=Fault.FAILED) if host.verdict is Verdict.FAILED else host


def _committed(host: HostStatus, event: Event) -> HostStatus:
    match host.outcome:
        case Outcome.DONE:
            return host if host.held else replace(host, course=Course.COMMITTED)
        case Outcome.FAILED | Outcome.REFUSED if host.reason in TURNED_BACK:
            return host
        case Outcome.REFUSED if host.reason == CLAIMED:
            return replace(host, fault=Fault.REFUSED)
        case _ if _may_be_asked_again(host):
            lost_at = _lost_at(host, Ask.COMMIT, event.at)
            return _still_doubted(replace(host, doubt=doubt(Ask.COMMIT, lost_at)), event.at)
        case _:
            return replace(host, fault=Fault.FAILED)


def _rolled_back(host: HostStatus, event: Event) -> HostStatus:
    match host.outcome:
        case Outcome.DONE if host.reason == OTHER_ROLLOUT and host.course is Course.BEGUN:
            return replace(host, fault=host.fault or Fault.FAILED, doubt=None)
        case Outcome.DONE | Outcome.REFUSED if host.reason in LEFT_ALONE:
            return replace(host, course=Course.LEFT_ALONE, doubt=None)
        case Outcome.DONE:
            return replace(host, course=Course.BACK, doubt=None)
        case Outcome.FAILED | Outcome.REFUSED if host.reason in TURNED_BACK:
            return replace(host, doubt=None)
        case _ if _may_be_asked_again(host):
            lost_at = _lost_at(host, Ask.ROLLBACK, event.at)
            if host.doubt is not None and host.doubt.ask is Ask.UPGRADE:
                host = replace(host, fault=host.fault or Fault.UNVERIFIED)
            return _still_doubted(replace(host, doubt=doubt(Ask.ROLLBACK, lost_at)), event.at)
        case _:
            return replace(host, fault=host.fault or Fault.FAILED, doubt=None)


def _words(event: Event) -> dict[str, Any]:
    """Why a visit ended as it did."""
    return {"reason": event.reason, "message": event.message, "remedy": str(event.data.get("remedy", ""))}


def _tells_less(host: HostStatus, event: Event, ask: Ask) -> bool:
    """Whether the host was lost before, and a look that came to nothing only says that it still is."""
    in_vain = ask is Ask.LOOK and event.outcome is Outcome.UNREACHABLE and event.reason not in ALARMS
    return in_vain and host.doubt is not None and host.silent


def _may_be_asked_again(host: HostStatus) -> bool:
    """Whether the visit did not end, or did not begin because another one is still at work there."""
    return host.silent or (host.outcome is Outcome.REFUSED and host.reason == BUSY)


def doubt(ask: Ask, lost_at: datetime) -> Doubt:
    """A fresh doubt: the host is asked a second later."""
    return Doubt(ask, lost_at, lost_at + timedelta(seconds=1))


def _lost_at(host: HostStatus, ask: Ask, at: datetime) -> datetime:
    """Since when nothing is known of what was asked."""
    return host.doubt.lost_at if host.doubt is not None and host.doubt.ask is ask else at


def _still_doubted(host: HostStatus, at: datetime) -> HostStatus:
    """The host after a try that told nothing: asked again later, or given up."""
    if host.doubt is None:
        return host
    if at - host.doubt.lost_at >= GIVE_UP:
        never = host.doubt.ask is Ask.ROLLBACK and host.outcome is Outcome.UNREACHABLE
        fault = host.fault or (Fault.UNREACHABLE if never else Fault.UNVERIFIED)
        return replace(host, doubt=None, fault=fault, given_up=host.doubt.ask)
    tries = host.doubt.tries + 1
    return replace(host, doubt=replace(host.doubt, tries=tries, next_at=at + timedelta(seconds=1 + tries)))


def _looked(host: HostStatus, event: Event, rollout: str) -> HostStatus:
    """What a look means: it ends a doubt when the host is where it was to go, or has come to rest."""
    if host.doubt is None:
        return host
    if host.outcome is not Outcome.DONE or host.report is None:
        return _still_doubted(host, event.at)
    settled = event.at - host.doubt.lost_at >= SETTLED
    ours = _is_ours(host, rollout)
    match host.doubt.ask:
        case Ask.UPGRADE if ours and host.phase in (Phase.TRIAL, Phase.NEW):
            return replace(host, course=Course.UPGRADED, doubt=None, left_at=host.phase)
        case Ask.UPGRADE if settled and host.phase is Phase.OLD:
            why = "the link was lost during the upgrade, and the host went back by itself"
            return replace(host, fault=Fault.FAILED, doubt=None, left_at=Phase.OLD, reason="went_back", message=why)
        case Ask.COMMIT if host.phase is Phase.NEW:
            return replace(host, course=Course.COMMITTED, doubt=None, left_at=host.phase)
        case Ask.COMMIT if settled and host.phase in RESTING:
            return _ask_again(host, Ask.COMMIT)
        case Ask.ROLLBACK:
            return _ask_again(host, Ask.ROLLBACK)
        case Ask.LOOK:
            return replace(host, doubt=None)
        case _:
            return _still_doubted(host, event.at)


def _ask_again(host: HostStatus, ask: Ask) -> HostStatus:
    """The host is at rest and still to go: it may be asked once more, but not for ever."""
    if host.visited(ask) < MOST_TRIES:
        return replace(host, doubt=None)
    why = f"the link was lost {MOST_TRIES} times during the {ask.value}"
    return replace(host, doubt=None, fault=Fault.UNVERIFIED, given_up=ask, reason="link_lost", message=why)
