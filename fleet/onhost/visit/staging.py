"""The answer to `stage`: the release is on the host, and every reason against an upgrade has been said."""

from contextlib import suppress
from typing import Optional, Tuple

from fleet.onhost.preflight import checks
from fleet.onhost.procedure import classify
from fleet.onhost.protocol import Finding, Observation, Outcome, Phase, Reply, ReplyType, Request, Step
from fleet.onhost.reasons.catalogue import few
from fleet.onhost.state.store import Serving
from fleet.onhost.steps.stage import ReleaseMissing, WrongBytes, stage
from fleet.onhost.system.file_lock import Busy
from fleet.onhost.visit.request import Visit
from fleet.onhost.visit.walk import End, ended


def answer_stage(visit: Visit) -> End:
    """The release is in the store and every reason against an upgrade has been said."""
    request = visit.request
    seen = visit.observer.look()
    assert request.goal is not None
    _remember_command(visit, seen)
    target = request.goal.target
    staged: Optional[str] = visit.store.release(target) if visit.store.has(target) else None
    if Step.STAGE in request.allowed:
        end, staged = _stage_told(visit)
        if end.outcome is not Outcome.DONE:
            return end
    record = visit.own.record if visit.own else None
    if classify(seen, request.goal.target) is Phase.NEW:
        return ended(Outcome.DONE, "runs_it")
    return judged(visit, checks.preflight(visit.machine, request, seen, staged, record, serving_of(visit)))


def _stage_told(visit: Visit) -> Tuple[End, Optional[str]]:
    """The step `stage`, told to the controller and to the host's journal, before and after."""
    request = visit.request
    began_s = visit.machine.monotonic_s()
    _note(visit, intent=Step.STAGE.value, rollout=request.rollout)
    visit.say(Reply(ReplyType.STEP_STARTED, step=Step.STAGE))
    end, staged = _staged(visit, request)
    took_s = visit.machine.monotonic_s() - began_s
    _note(visit, result=Step.STAGE.value, outcome=end.outcome.value, reason=end.reason, message=end.message)
    visit.say(
        Reply(
            ReplyType.STEP_ENDED,
            step=Step.STAGE,
            outcome=end.outcome,
            reason=end.reason,
            message=end.message,
            took_s=took_s,
        )
    )
    return end, staged


def _note(visit: Visit, **entry: object) -> None:
    """The entry is in the host's journal, where there is one and room for it: staging changes nothing that runs."""
    with suppress(OSError):
        if visit.own is not None:
            visit.own.note(**entry)


def serving_of(visit: Visit) -> Serving:
    return visit.own.serving if visit.own else Serving()


def _remember_command(visit: Visit, seen: Observation) -> None:
    """How the master was started is known from now on, should it ever be down. Who is at work there knows it anyway."""
    if visit.own is None or len(seen.masters) != 1 or visit.own.serving.argv == seen.masters[0].argv:
        return
    with suppress(Busy), visit.own.lock(0.0):
        visit.own.write_serving(visit.own.serving._replace(argv=seen.masters[0].argv))


def judged(visit: Visit, findings: Tuple[Finding, ...]) -> End:
    """All findings are said, of one word a few; any refusal among them ends the visit."""
    said = few(findings)
    for finding in said:
        visit.find(finding)
    refusals = checks.refusals(said)
    if not refusals:
        return End(Outcome.DONE)
    message = "; ".join(finding.message for finding in refusals)
    return End(Outcome.REFUSED, refusals[0].reason, message, refusals[0].remedy)


def _staged(visit: Visit, request: Request) -> Tuple[End, Optional[str]]:
    """The store has the release, or why not: nothing is asked for that would find no room or no use here."""
    assert request.goal is not None
    against = () if visit.store.has(request.goal.target) else checks.before_staging(visit.machine, request)
    if checks.refusals(against):
        return judged(visit, against), None
    try:
        return End(Outcome.DONE), stage(visit.machine, visit.store, request.goal.target, request.release_bytes)
    except ReleaseMissing as error:
        return ended(Outcome.REFUSED, "release_missing", path=error), None
    except WrongBytes as error:
        return ended(Outcome.FAILED, "wrong_bytes", error=error), None
