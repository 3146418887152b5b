"""What people see: text made safe, one plain line per event, and the tables of results.

Everything here is a pure function of events and status; writing is `output`'s. A host's words are data: control characters
are taken out and nothing in them is read as markup, because whoever owns a host chooses its version strings.
"""

import io
from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleet.events import ALARMS, Event, EventType
from fleet.onhost.protocol import Ask, Finding, Outcome, Phase, Severity
from fleet.onhost.text import listed, safe, sentences
from fleet.rollout.host_status import Course, Fault, HostStatus
from fleet.rollout.rollout_status import RolloutStatus

BAR = "!" * 100
STYLES = {
    Phase.OLD: "default",
    Phase.SWAPPED: "yellow",
    Phase.OVERLAP: "yellow",
    Phase.TRIAL: "cyan",
    Phase.RETIRING: "yellow",
    Phase.NEW: "green",
    Phase.DISMISSING: "yellow",
    Phase.STRANDED: "bold red",
    Phase.DOWN: "bold red",
    Phase.FOREIGN: "bold magenta",
}


def plain_line(event: Event) -> str | None:
    """The line that tells an event to people, or `None` for one that only machines need."""
    words = _words(event)
    if words is None:
        return None
    where = f"{event.host}: " if event.host else ""
    took = f" ({event.took_s:.1f} s)" if event.took_s is not None else ""
    return f"{event.at:%H:%M:%S}  {safe(where + words)}{took}"


def is_news(event: Event) -> bool:
    """Whether the event is told without -v. The end is told apart, after the table; a step or look that went well is not."""
    if event.type in (EventType.ROLLOUT_STARTED, EventType.ROLLOUT_ENDED):
        return False
    if event.outcome is not Outcome.DONE:
        return True
    return event.type is not EventType.STEP_ENDED and event.data.get("ask") not in (Ask.BAKE.value, Ask.LOOK.value)


def is_alarming(event: Event) -> bool:
    """Whether the event says what must not be missed: a host shows a key that must not be accepted."""
    return event.reason in ALARMS


def alarm(said: Iterable[tuple[str, str]]) -> Text | None:
    """What must not be missed, framed: each message once, with everybody whom it is about. `None` when nothing is said."""
    lines = [safe(line) for line in once_each(said)]
    if not lines:
        return None
    return Text("\n".join((BAR, *lines, BAR)), style="bold red")


def alarms(status: RolloutStatus) -> Text | None:
    """The same of all hosts, for the end of a run."""
    said = []
    for host in status.all:
        if host.reason in ALARMS:
            said.append((host.name, sentences(host.message, host.remedy)))
        elif host.cause is not None and host.cause.reason in ALARMS:
            said.append((host.name, sentences(host.cause.message, host.cause.remedy)))
    return alarm(said)


def once_each(said: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each message, with the names of all it is about; a name and a message are what is said."""
    about: dict[str, list[str]] = {}
    for name, message in said:
        about.setdefault(message, []).append(name)
    return [f"{listed(names)}: {message}" for message, names in about.items()]


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
    step = event.step.value if event.step else "step"
    if event.outcome is Outcome.DONE or event.outcome is None:
        return f"{step} done" + (f": {event.message}" if event.message else "")
    verb = "refused to" if event.outcome is Outcome.REFUSED else "failed to"
    return f"{verb} {step}: {_told(event)}"


def _visit_words(event: Event) -> str:
    ask = str(event.data.get("ask", "visit"))
    is_staged = bool(event.data.get("staged", True))
    phase = f" [{event.report.phase.value}]" if event.report and "staged" not in event.data else ""
    match event.outcome:
        case Outcome.DONE:
            done = f"{ask} done{phase}" if is_staged else "asked, no refusal found"
            return done + (f": {event.message}" if event.message else "")
        case Outcome.REFUSED:
            return f"{ask} refused{phase}: {_told(event)}"
        case Outcome.UNREACHABLE:
            return f"unreachable: {_told(event)}"
        case Outcome.LINK_LOST:
            return f"link lost during {ask}, it may have happened: {_told(event)}"
        case _:
            return f"{ask} failed{phase}: {_told(event)}"


def _finding_words(event: Event) -> str:
    kind = "warning" if event.data.get("severity") == Severity.WARNING.value else "refused"
    return f"{kind} ({event.reason}): {_told(event)}"


def _told(event: Event) -> str:
    remedy = str(event.data.get("remedy", "")) if event.message else ""
    return sentences(event.message or event.reason or "no reason told", remedy)


def spell_seconds(seconds: float) -> str:
    """`7 s`, `3m05s`, `1h02m`: a span as people read it, rounded down."""
    total = int(seconds)
    if total < 60:
        return f"{total} s"
    return f"{total // 60}m{total % 60:02d}s" if total < 3600 else f"{total // 3600}h{total % 3600 // 60:02d}m"


def version(number: str | None, sha256: str | None) -> str:
    """`1.26.3 (1a2b3c4d)`: two builds may have the same version, never the same hash."""
    short = sha256[:8] if sha256 else "?"
    return f"{safe(number, 40)} ({short})" if number else short


def summary(status: RolloutStatus) -> Table:
    """One row per host: what it ran before and runs now, and what became of it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("host", "before", "now", "phase", "outcome", "seconds"):
        table.add_column(name, overflow="fold", justify="right" if name == "seconds" else "left")
    for host in status.all:
        before, now = host.first, None if host.silent else host.report
        table.add_row(
            Text(safe(host.name)),
            Text(version(before.running_version, before.running_sha256) if before else "?"),
            Text(version(now.running_version, now.running_sha256) if now else "?"),
            phase_text(now.phase if now else None),
            Text(outcome_words(host), style="red" if host.fault or host.needs_person else ""),
            f"{host.took_s:.1f}",
        )
    return table


def phase_text(phase: Phase | None) -> Text:
    """The phase's word, coloured."""
    return Text("?" if phase is None else phase.value, style="" if phase is None else STYLES[phase])


def outcome_words(host: HostStatus) -> str:
    """What became of a host, in a few words; the reason with it where something is wrong."""
    if host.drain_pending and host.fault is None:
        return "held: drain pending"
    words = host.course.value
    if host.course is Course.UPGRADED and host.held:
        words = "held"
    if host.course is Course.UPGRADED and host.phase is Phase.OLD:
        words = "went back"
    if host.course is Course.BACK and host.was_back:
        words = "was back already"
    if _is_unbegun(host):
        words = "not begun"
    if host.cause is not None and host.fault is not None:
        then = "" if words in (Course.BEGUN.value, "not begun") else f", {words}"
        words = f"{host.fault.value} ({host.cause.reason or 'no reason told'}){then}"
    elif host.course is Course.LEFT_ALONE and words != "not begun":
        words = f"left alone ({host.reason})"
    return safe(words + ("; a person must look" if host.needs_person else ""))


def _is_unbegun(host: HostStatus) -> bool:
    """Whether the rollout never came to this host; a rollback has then only told it so."""
    if host.course in (Course.WAITING, Course.STAGED):
        return True
    return host.course is Course.LEFT_ALONE and host.reason in ("nothing_to_undo", "other_rollout")


def troubles(status: RolloutStatus) -> Group:
    """Every host with something wrong, and all that it said of it: `web-07: refused …: remedy`."""
    return Group(*(Text(line) for host in status.all for line in _trouble(host)))


def _trouble(host: HostStatus) -> list[str]:
    refusals = [found for found in host.findings if found.severity is Severity.REFUSAL]
    if refusals and host.fault is Fault.REFUSED:
        return [f"{safe(host.name)}: {finding_words(found)}" for found in refusals]
    lines = []
    if host.cause is not None:
        why = host.cause.message or host.cause.reason or "no reason told"
        lines.append(safe(f"{host.name}: {sentences(why, host.cause.remedy)}"))
    is_left = host.course is Course.LEFT_ALONE and not _is_unbegun(host)
    if (is_left or host.needs_person) and host.message and (host.cause is None or host.message != host.cause.message):
        lines.append(safe(f"{host.name}: {sentences(host.message, host.remedy)}"))
    return lines


def finding_words(found: Finding) -> str:
    """A finding in one line: the word, what is so, what to do."""
    return safe(f"{found.severity.value} {found.reason}: {sentences(found.message, found.remedy)}")


def findings_table(hosts: Iterable[HostStatus], is_staged: bool = True) -> Table:
    """What preflight found, host by host; a host with nothing to say has one row, too."""
    fit = "can be upgraded" if is_staged else "no refusal found"
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("host", "finding", "what is so, and what to do"):
        table.add_column(name, overflow="fold")
    for host in hosts:
        if host.fault is not None and not host.findings:
            why = Text(safe(sentences(host.message, host.remedy)))
            table.add_row(Text(safe(host.name)), Text(safe(host.reason or host.fault.value), style="red"), why)
        elif not host.findings:
            so = "runs the release already" if host.course is Course.ALREADY else fit
            table.add_row(Text(safe(host.name)), Text("ok", style="green"), Text(so))
        for found in host.findings:
            is_refusal = found.severity is Severity.REFUSAL
            table.add_row(
                Text(safe(host.name)),
                Text(f"{found.severity.value}: {safe(found.reason)}", style="red" if is_refusal else "yellow"),
                Text(safe(sentences(found.message, found.remedy))),
            )
    return table


def as_text(what: RenderableType, width: int) -> str:
    """The renderable as plain text of this width, for tests and files."""
    console = Console(file=io.StringIO(), width=width, color_system=None, markup=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(what)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"
