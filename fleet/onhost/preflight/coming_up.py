"""Whether the new release came up in the rehearsal and, if not, why: the reason that it would have at the launch.

What keeps the running release from coming up in the same way is no evidence against the new one.
"""

from typing import List, Optional, Sequence

from fleet.onhost.nginx.error_log import CRASHED, ENDED
from fleet.onhost.nginx.start_failures import Cause, is_ignored, why_it_ended
from fleet.onhost.preflight.differences import came_up, new_lines, quoted
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import finding, seen_in_rehearsal
from fleet.onhost.rehearsal.evidence import Defect, Fault, Generation, Rehearsal

CERTAIN = ("fifo_blocks", "module_mismatch")
"""What stands in the files, and would be so at the launch whatever the rehearsal lacks."""
CAME_UP = "The running release's workers stay"
NOT_SHOWN = "The running release was not tried there, or did not come up"


def failed_starts(subject: Subject, rehearsal: Rehearsal) -> List[Finding]:
    """What the rehearsal shows of the starts of both releases; nothing when both came up."""
    old, new = rehearsal.old, rehearsal.new
    if rehearsal.why_not is not None:
        return [finding("not_rehearsed", why=rehearsal.why_not)]
    before = _cause(subject, old) if old is not None else None
    now = before if new is None else _cause(subject, new, came_up(old))
    if now is None:
        return [finding("old_would_not_start", line=_line(before))] if before is not None else []
    if before is not None and _is_same(before, now) and now.word not in CERTAIN:
        return [finding("rehearsal_inconclusive", line=_line(now))]
    if new is not None and new.fault is not None and new.fault.defect is Defect.IGNORED and not _is_daemon(old):
        return []  # That has a reason of its own.
    return [seen_in_rehearsal(finding(now.word, **now.facts))]


def _is_daemon(old: Optional[Generation]) -> bool:
    return old is None or old.daemon


def _cause(subject: Subject, shown: Generation, before: Optional[Generation] = None) -> Optional[Cause]:
    """Why this generation did not come up; `None` when it did. What the one before wrote as well was not the cause."""
    fault = shown.fault
    if fault is None:
        return None
    if fault.defect is Defect.BLOCKED:
        return Cause("fifo_blocks", {"path": fault.path})
    if fault.defect is Defect.IGNORED:
        line = is_ignored(shown.lines) or fault.text
        return Cause("usr2_ignored", {"pid": subject.old.pid, "waited": shown.up_s, "line": line})
    if fault.defect is Defect.ENDED:
        return _ended(subject, fault, new_lines(shown, before))
    return _without_workers(shown, fault, before, len(subject.old.accepting))


def _ended(subject: Subject, fault: Fault, lines: Sequence[str]) -> Cause:
    if fault.signal is not None:
        return Cause("start_crashed", {"signal": fault.signal, "when": "started"})
    found = why_it_ended(lines, subject.seen.path or "", subject.seen.pid_file or "")
    if found is not None and found.word == "module_incompatible":
        module, why, cure = (found.facts[name] for name in ("module", "why", "cure"))
        return Cause("module_mismatch", {"binary": "the new binary", "module": module, "why": why, "cure": cure})
    return found or Cause("launch_failed", {"line": lines[0] if lines else fault.text})


def _without_workers(shown: Generation, fault: Fault, before: Optional[Generation], wanted: int) -> Cause:
    crashed = [line for line in shown.lines if CRASHED in line]
    ended = [line for line in shown.lines if ENDED in line]
    compared = CAME_UP if before is not None else NOT_SHOWN
    if ended and not crashed:
        return Cause("workers_fatal", {"lines": quoted(ended), "compared": compared})
    if crashed or fault.defect is Defect.WORKERS_DIE:
        return Cause("workers_crash", {"lines": quoted(crashed or [fault.text]), "compared": compared})
    wanted = before.workers if before is not None else wanted
    return Cause("workers_missing", {"has": shown.workers, "waited": shown.up_s, "wanted": wanted})


def _is_same(before: Cause, now: Cause) -> bool:
    facts = [{name: fact for name, fact in one.facts.items() if name != "waited"} for one in (before, now)]
    return before.word == now.word and (facts[0] == facts[1] or "lines" in facts[0])


def _line(cause: Optional[Cause]) -> str:
    """The cause in one line: nginx's own where there is one."""
    facts = cause.facts if cause is not None else {}
    for name in ("line", "lines", "why"):
        if name in facts:
            return str(facts[name])
    return finding(cause.word, **facts).message if cause is not None else ""
