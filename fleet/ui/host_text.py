"""A host in few words, as the tables and the live view show it: phase, version, outcome; and a span of time."""

from rich.text import Text

from fleet.onhost.protocol import Phase
from fleet.onhost.text import counted, safe
from fleet.onhost.views import RehearsalSummary
from fleet.rollout.host_status import HostStatus, KnownReason, Progress

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


def elapsed(seconds: float) -> str:
    """`7 s`, `3m05s`, `1h02m`: a span of time, rounded down."""
    total = int(seconds)
    if total < 60:
        return f"{total} s"
    return f"{total // 60}m{total % 60:02d}s" if total < 3600 else f"{total // 3600}h{total % 3600 // 60:02d}m"


def version(number: str | None, sha256: str | None) -> str:
    """`1.26.3 (1a2b3c4d)`: two builds may have the same version, never the same hash."""
    short = sha256[:8] if sha256 else "?"
    return f"{safe(number, 40)} ({short})" if number else short


def phase_text(phase: Phase | None) -> Text:
    """The phase's word in its colour; `?` when it is not known."""
    return Text("?" if phase is None else phase.value, style="" if phase is None else STYLES[phase])


def outcome_text(host: HostStatus) -> str:
    """What became of a host, in a few words, with the reason where something is wrong."""
    if host.drain_pending and host.fault is None:
        return "held, drain pending"
    if host.retires_itself and host.fault is None:
        return "retires its old master when drained"
    words = host.progress.value
    if host.progress is Progress.UPGRADED and host.held:
        words = "held"
    if host.progress is Progress.UPGRADED and host.phase is Phase.OLD:
        words = "went back"
    if host.progress is Progress.ROLLED_BACK and host.was_back_before:
        words = "was rolled back before"
    if not_begun(host):
        words = "not begun"
    if host.fault is not None:
        then = "" if words in (Progress.BEGUN.value, "not begun") else f", {words}"
        words = f"{host.fault.kind.value} ({host.fault.reason or 'no reason given'}){then}"
    elif host.progress is Progress.LEFT_ALONE and words != "not begun":
        words = f"left alone ({host.last.reason})"
    return safe(words + ("; needs a person" if host.needs_person else ""))


def rehearsal_text(found: RehearsalSummary) -> str:
    """What the rehearsal of an upgrade showed, or why there was none, in one line."""
    if found.why_not is not None:
        return safe(found.why_not)
    parts = [counted(found.workers, "worker"), counted(found.listeners, "listener"), _answers(found)]
    if found.lines:
        parts.append(f"{counted(found.lines, 'log line')} that the running release does not write")
    shown = ", ".join(parts) if found.workers else "the new release did not come up"
    return safe(" ".join([f"{shown} ({found.took_s:.1f} s)", *found.notes]))


def _answers(found: RehearsalSummary) -> str:
    if found.alone:
        return f"{counted(found.questions, 'question')} answered, the running release not rehearsed"
    few = "" if found.alike == found.questions else f"{found.alike} of "
    return f"{few}{counted(found.questions, 'question')} answered as by the running release"


def not_begun(host: HostStatus) -> bool:
    """Whether the rollout never changed this host; a rollback then finds nothing to undo there."""
    if host.progress in (Progress.WAITING, Progress.STAGED):
        return True
    never_changed = (KnownReason.NOTHING_TO_UNDO, KnownReason.OTHER_ROLLOUT, KnownReason.NOT_BEGUN)
    return host.progress is Progress.LEFT_ALONE and host.last.known_reason in never_changed
