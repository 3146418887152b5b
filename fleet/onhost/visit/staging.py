"""The answer to `stage`: brings the release into the store and runs preflight."""

from contextlib import suppress
from typing import Optional, Tuple

from fleet.onhost.nginx.log.baseline import rehearsed_lines
from fleet.onhost.observation import Observation
from fleet.onhost.preflight import checks
from fleet.onhost.preflight.result import PreflightResult, summary
from fleet.onhost.procedure import classify
from fleet.onhost.protocol import Finding, Outcome, Phase, Step
from fleet.onhost.reasons.catalogue import limit_per_word
from fleet.onhost.rehearsal.evidence import Generation
from fleet.onhost.state.known_lines import Rehearsed
from fleet.onhost.steps.stage import ReleaseMissing, WrongBytes, is_uploaded, stage
from fleet.onhost.steps.unit_follows import unit_that_started
from fleet.onhost.system.file_lock import Busy
from fleet.onhost.visit.end import End, end_of, ended
from fleet.onhost.visit.request import Visit


def answer_stage(visit: Visit) -> End:
    """Stage the release and send every finding of preflight."""
    instance, request = visit.instance, visit.request
    assert request.goal is not None
    target = request.goal.target
    seen = instance.look()
    _remember_command(visit, seen)
    if Step.STAGE in request.allowed:
        end = visit.take(Step.STAGE, lambda: _staged(visit, target))
        if end.outcome is not Outcome.DONE:
            return end
    if classify(seen, target) is Phase.NEW:
        return ended(Outcome.DONE, "runs_it")
    staged = instance.store.release(target) if instance.store.has(target) else None
    return preflighted(visit, visit.preflight(instance, request, seen, staged), seen)


def _remember_command(visit: Visit, seen: Observation) -> None:
    """Remember how the master was started, in case it is ever down. A visit that holds the lock does so, too."""
    own = visit.instance.kept
    if own is None or len(seen.masters) != 1:
        return
    known = own.serving
    now = known._replace(argv=seen.masters[0].argv, unit=unit_that_started(visit.instance, seen))
    if now != known:
        with suppress(Busy), own.lock(0.0):
            own.write_serving(now)


def preflighted(visit: Visit, result: PreflightResult, seen: Observation) -> End:
    """Send the findings of preflight. The rehearsal is noted in the host's journal, and goes into the report; what the running
    release's binary logged in it is kept for the judgement of the new one.
    """
    end = judged(visit, result.findings)
    if result.rehearsal is None:
        return end
    _remember_lines(visit, result.rehearsal.old, seen)
    found = summary(result.rehearsal)
    visit.instance.note(rehearsal=found._asdict(), rollout=visit.request.rollout)
    return end._replace(rehearsal=found)


def _remember_lines(visit: Visit, shown: Optional[Generation], seen: Observation) -> None:
    """Keep what the running release's binary logged in the rehearsal, if it came up there and still runs here."""
    if shown is None or shown.fault is not None or visit.instance.kept is None or not seen.masters:
        return
    old = seen.masters[0]
    with suppress(OSError):
        visit.instance.own.write_rehearsed(Rehearsed((old.pid, old.start), rehearsed_lines(shown.lines)))


def judged(visit: Visit, findings: Tuple[Finding, ...]) -> End:
    """Send the findings, a few of each word. REFUSED if there is a refusal among them."""
    shown = limit_per_word(findings)
    for finding in shown:
        visit.find(finding)
    refusals = checks.refusals(shown)
    if not refusals:
        return End(Outcome.DONE)
    message = " ".join(finding.message for finding in refusals)
    return end_of(Outcome.REFUSED, refusals[0]._replace(message=message))


def _staged(visit: Visit, target: str) -> End:
    """How staging ended. Asks the controller for the bytes only if they have room and use here."""
    instance, request = visit.instance, visit.request
    uploaded = is_uploaded(instance.store, target)
    against = () if instance.store.has(target) else checks.before_staging(instance.machine, request, uploaded)
    if checks.refusals(against):
        return judged(visit, against)
    try:
        stage(instance.machine, instance.store, target, request.release_bytes)
    except ReleaseMissing as error:
        return ended(Outcome.REFUSED, "release_missing", path=error)
    except WrongBytes as error:
        return ended(Outcome.FAILED, "wrong_bytes", error=error)
    return End(Outcome.DONE)
