"""What an event of one host changes in its status: above all the end of a visit, which means something else for each ask."""

from dataclasses import replace
from datetime import datetime

from fleet.events import Event, EventType
from fleet.onhost.protocol import Ask, Finding, Outcome, Phase, Report, Severity, State
from fleet.rollout.host_status import (
    ARRIVED,
    MAX_TRIES,
    Bake,
    Fault,
    FaultKind,
    HostStatus,
    KnownReason,
    LastVisit,
    PastVisits,
    Progress,
    RunningVisit,
    UnresolvedVisit,
    Verdict,
    at_fault,
    explained,
)
from fleet.rollout.transitions.lost_visits import committed, is_ours, looked, rolled_back, unresolved

RENEWING = (Ask.UPGRADE, Ask.BAKE)
"""The visits whose last act renews the lease and the claim."""
MOVING = (Ask.UPGRADE, Ask.COMMIT, Ask.ROLLBACK)
"""The visits that move a host; `moving_s` counts only their time."""
MOVING_FORWARD = (Ask.UPGRADE, Ask.COMMIT)
"""The visits after which the host's phase is where this rollout left it."""
UNDONE_BY_OPERATOR = "An operator rolled this host back from this rollout. Only a new `fleet upgrade` moves it forward."
UNFINISHED = "A rollback of this rollout has begun on this host and did not finish: the host is %s%s."
BOTH = ", and both releases serve"


def after(host: HostStatus, event: Event, rollout: str) -> HostStatus:
    """The host after one more event of its own."""
    match event.type:
        case EventType.HOST_KNOWN:
            return _known(host, event)
        case EventType.VISIT_STARTED:
            return _visit_started(host, event)
        case EventType.VISIT_ENDED:
            return _visit_ended(host, event, rollout)
        case EventType.STEP_STARTED | EventType.STEP_ENDED if host.running is not None:
            step = event.step if event.type is EventType.STEP_STARTED else None
            return replace(host, running=replace(host.running, step=step))
        case EventType.FINDING:
            return replace(host, findings=(*host.findings, finding(event)))
        case _:
            return host


def finding(event: Event) -> Finding:
    """The finding in a `FINDING` event."""
    return Finding(
        reason=event.reason or "",
        severity=Severity(event.data.get("severity", Severity.REFUSAL.value)),
        message=event.message,
        remedy=str(event.data.get("remedy", "")),
        overridable=bool(event.data.get("overridable", False)),
    )


def _known(host: HostStatus, event: Event) -> HostStatus:
    """The host as it was when the run began; the reverse of `initial_events`."""
    data = event.data
    return replace(
        host,
        progress=Progress(data["course"]),
        fault=_known_fault(data["fault"], data["cause"], data.get("gave_up_on")),
        unresolved=_known_unresolved(*data["doubt"]) if data["doubt"] else None,
        last=_words(host.last, event, event.outcome),
        report=event.report,
        first_report=event.report if data["was_first"] else None,
        passed_gate=data["proven"],
    )


def _known_fault(kind: str | None, words: tuple[str | None, str, str] | None, given_up: str | None) -> Fault | None:
    reason, message, remedy = words or (None, "", "")
    ask = Ask(given_up) if given_up else None
    return Fault(FaultKind(kind), reason, message, remedy, ask) if kind else None


def _known_unresolved(ask: str, lost_at: str, next_at: str, tries: int) -> UnresolvedVisit:
    return UnresolvedVisit(Ask(ask), datetime.fromisoformat(lost_at), datetime.fromisoformat(next_at), tries)


def _visit_started(host: HostStatus, event: Event) -> HostStatus:
    ask = Ask(event.data["ask"])
    counts = {**host.past.counts, ask: host.visited(ask) + 1}
    return replace(host, running=RunningVisit(ask, event.at), past=replace(host.past, counts=counts))


def _visit_ended(host: HostStatus, event: Event, rollout: str) -> HostStatus:
    """The host after a visit: first what the visit said, then what that means for this kind of visit."""
    ask = Ask(event.data["ask"])
    started_at = host.running.started_at if host.running else event.at
    host = replace(
        host,
        running=None,
        last=_last_visit(host, event, ask, started_at),
        past=_past_visits(host.past, event, ask, started_at),
        report=event.report or host.report,
        first_report=host.first_report or (None if host.visited(Ask.ROLLBACK) else event.report),
    )
    if host.last.known_reason is KnownReason.TAKEN_OVER:
        begun = ask is Ask.UPGRADE and is_ours(host, rollout)
        return replace(host, unresolved=None, progress=Progress.BEGUN if begun else host.progress)
    match ask:
        case Ask.STAGE:
            return _staged(host, rollout)
        case Ask.UPGRADE:
            return _upgraded(host, event, rollout)
        case Ask.BAKE:
            return _baked(host, started_at, event.at)
        case Ask.COMMIT:
            return committed(host, event)
        case Ask.ROLLBACK:
            return rolled_back(host, event, rollout)
        case Ask.LOOK:
            return looked(host, event, rollout)
        case Ask.UNLOCK | Ask.LEASE:
            return host


def _last_visit(host: HostStatus, event: Event, ask: Ask, started_at: datetime) -> LastVisit:
    """The visit that ended. A look that got no answer after a lost visit keeps the words of the lost one."""
    is_unanswered_look = ask is Ask.LOOK and event.outcome is Outcome.UNREACHABLE and event.alarm is None
    keeps_words = is_unanswered_look and host.unresolved is not None and host.last.unanswered
    last = replace(host.last, ask=ask, started_at=started_at)
    return replace(last, outcome=event.outcome) if keeps_words else _words(last, event, event.outcome)


def _words(last: LastVisit, event: Event, outcome: Outcome | None) -> LastVisit:
    """The visit with what the event says of its end."""
    remedy = str(event.data.get("remedy", ""))
    return replace(last, outcome=outcome, reason=event.reason, message=event.message, remedy=remedy)


def _past_visits(past: PastVisits, event: Event, ask: Ask, started_at: datetime) -> PastVisits:
    took_s = (event.took_s or 0.0) if ask in MOVING else 0.0
    return replace(
        past,
        moving_s=past.moving_s + took_s,
        left_at=event.report.phase if event.report and ask in MOVING_FORWARD else past.left_at,
        renewed_at=started_at if event.report and ask in RENEWING else past.renewed_at,
    )


def _staged(host: HostStatus, rollout: str) -> HostStatus:
    match host.last.outcome:
        case Outcome.DONE if host.is_half_way_back(rollout):
            why = UNFINISHED % (host.phase.value if host.phase else "?", BOTH if host.phase is Phase.OVERLAP else "")
            host = explained(replace(host, progress=Progress.BEGUN), "rollback_unfinished", why)
            return at_fault(host, FaultKind.REFUSED)
        case Outcome.DONE if host.was_undone_by_operator(rollout):
            return explained(replace(host, progress=Progress.LEFT_ALONE), "rolled_back", UNDONE_BY_OPERATOR)
        case Outcome.DONE:
            return replace(host, progress=_progress_when_staged(host, rollout))
        case Outcome.REFUSED | Outcome.FAILED if host.last.turned_back:
            return host
        case Outcome.REFUSED | Outcome.FAILED:
            return at_fault(host, FaultKind.REFUSED)
        case _:
            return at_fault(host, FaultKind.UNREACHABLE)


def _progress_when_staged(host: HostStatus, rollout: str) -> Progress:
    """How far a host got that may be upgraded. A resumed rollout continues on the hosts that it began earlier."""
    record = host.report.record if host.report else None
    if record is None or record.rollout != rollout or record.state is State.ROLLED_BACK or host.phase is Phase.OLD:
        return Progress.RAN_ALREADY if _runs_release(host) else Progress.STAGED
    if host.phase is not Phase.NEW or (host.report and host.report.unconfirmed):
        return Progress.BEGUN
    return Progress.COMMITTED if record.state is State.COMMITTED else Progress.UPGRADED


def _runs_release(host: HostStatus) -> bool:
    return host.last.known_reason is KnownReason.RUNS_RELEASE


def _upgraded(host: HostStatus, event: Event, rollout: str) -> HostStatus:
    match host.last.outcome:
        case Outcome.DONE if _runs_release(host):
            return replace(host, progress=Progress.RAN_ALREADY)
        case Outcome.DONE if host.phase in ARRIVED:
            return replace(host, progress=Progress.UPGRADED)
        case Outcome.REFUSED | Outcome.FAILED if host.last.turned_back:
            return replace(host, progress=_progress_when_turned_back(host, rollout))
        case Outcome.REFUSED if _may_wait_for_own_script(host, rollout):
            return host
        case Outcome.REFUSED if not is_ours(host, rollout):
            return at_fault(host, FaultKind.REFUSED)
        case Outcome.UNREACHABLE:
            return at_fault(host, FaultKind.UNREACHABLE)
        case Outcome.LINK_LOST:
            return replace(host, progress=Progress.BEGUN, unresolved=unresolved(Ask.UPGRADE, event.at))
        case _:
            return at_fault(replace(host, progress=Progress.BEGUN), FaultKind.FAILED)


def _may_wait_for_own_script(host: HostStatus, rollout: str) -> bool:
    """Whether a step script of the interrupted run still works on the host, which then waits for it by itself."""
    is_busy = host.last.known_reason is KnownReason.BUSY
    return is_busy and is_ours(host, rollout) and host.visited(Ask.UPGRADE) < MAX_TRIES


def _progress_when_turned_back(host: HostStatus, rollout: str) -> Progress:
    """How far a host got when the operator stopped its visit. That is no fault of the host."""
    if not is_ours(host, rollout):
        return host.progress
    if host.phase in ARRIVED:
        return Progress.UPGRADED
    return Progress.ROLLED_BACK if host.phase is Phase.OLD else Progress.BEGUN


def judge(outcome: Outcome | None, report: Report | None) -> Verdict:
    """The verdict of one look at one host. A host that could not be asked is an `ERROR`, never a failure nor a pass."""
    if outcome is Outcome.FAILED:
        return Verdict.FAILED
    return Verdict.PASSED if outcome is Outcome.DONE and report is not None else Verdict.ERROR


def _baked(host: HostStatus, looked_at: datetime, at: datetime) -> HostStatus:
    verdict = judge(host.last.outcome, host.report)
    since = (host.bake and host.bake.unanswered_since) or at
    host = replace(host, bake=Bake(verdict, looked_at, since if verdict is Verdict.ERROR else None))
    return at_fault(host, FaultKind.FAILED) if verdict is Verdict.FAILED else host
