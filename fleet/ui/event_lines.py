"""One plain line per event: what a terminal, a log or a pipe shows while a rollout runs, and `fleet show` afterwards."""

from fleet.events import Event, EventType
from fleet.onhost.protocol import Ask, Outcome, Severity
from fleet.onhost.text import safe, sentences


def plain_line(event: Event) -> str | None:
    """The line for people: time, host, what happened. `None` for an event that only programs need."""
    words = _words(event)
    if words is None:
        return None
    where = f"{event.host}: " if event.host else ""
    took = f" ({event.took_s:.1f} s)" if event.took_s is not None else ""
    return f"{event.at:%H:%M:%S}  {safe(where + words)}{took}"


def is_shown_by_default(event: Event) -> bool:
    """Whether the event is shown without -v.

    A step or a look that went well is not. The end of the rollout is shown apart, after the summary.
    """
    if event.type in (EventType.ROLLOUT_STARTED, EventType.ROLLOUT_ENDED):
        return False
    if event.outcome is not Outcome.DONE:
        return True
    return event.type is not EventType.STEP_ENDED and event.data.get("ask") not in (Ask.BAKE.value, Ask.LOOK.value)


def _words(event: Event) -> str | None:
    match event.type:
        case EventType.STEP_ENDED:
            return _step_words(event)
        case EventType.VISIT_ENDED:
            return _visit_words(event)
        case EventType.FINDING:
            return _finding_words(event)
        case EventType.STEP_STARTED | EventType.VISIT_STARTED | EventType.HOST_KNOWN:
            return None
        case _:
            return event.message or event.type.value.replace("_", " ")


def _step_words(event: Event) -> str:
    """A step that failed gets its message only: the end of the visit, the next line, repeats it with the remedy."""
    step = event.step.value if event.step else "step"
    if event.outcome is Outcome.DONE or event.outcome is None:
        return f"{step} done" + (f": {event.message}" if event.message else "")
    verb = "refused to" if event.outcome is Outcome.REFUSED else "failed to"
    return f"{verb} {step}: {event.message or event.reason or 'no reason given'}"


def _visit_words(event: Event) -> str:
    ask = str(event.data.get("ask", "visit"))
    is_staged = bool(event.data.get("staged", True))
    phase = f" [{event.report.phase.value}]" if event.report and "staged" not in event.data else ""
    match event.outcome:
        case Outcome.DONE:
            done = f"{ask} done{phase}" if is_staged else "preflight passed (release not staged)"
            return done + (f": {event.message}" if event.message else "")
        case Outcome.REFUSED:
            return f"{ask} refused{phase}: {_reason_words(event)}"
        case Outcome.UNREACHABLE:
            return f"unreachable: {_reason_words(event)}"
        case Outcome.LINK_LOST:
            return f"connection lost during {ask}, which may have completed: {_reason_words(event)}"
        case _:
            return f"{ask} failed{phase}: {_reason_words(event)}"


def _finding_words(event: Event) -> str:
    kind = "warning" if event.data.get("severity") == Severity.WARNING.value else "refused"
    return f"{kind} ({event.reason}): {_reason_words(event)}"


def _reason_words(event: Event) -> str:
    remedy = str(event.data.get("remedy", "")) if event.message else ""
    return sentences(event.message or event.reason or "no reason given", remedy)
