"""What preflight gives: its findings, and the rehearsal that some of them come from, in full and in numbers."""

from typing import NamedTuple, Optional, Tuple

from fleet.onhost.preflight.differences import new_lines
from fleet.onhost.protocol import Finding
from fleet.onhost.rehearsal.evidence import Answered, Generation, Rehearsal
from fleet.onhost.views import RehearsalSummary


class PreflightResult(NamedTuple):
    """All findings about an upgrade of this instance. `rehearsal` is `None` where none was asked for or made sense."""

    findings: Tuple[Finding, ...]
    rehearsal: Optional[Rehearsal] = None


def summary(rehearsal: Rehearsal) -> RehearsalSummary:
    """What the rehearsal showed of the new release, beside the running one's answers."""
    old, new = rehearsal.old or Generation(0.0), rehearsal.new or Generation(0.0)
    before = {one.question: one for one in old.answers}
    return RehearsalSummary(
        workers=new.workers,
        listeners=len(new.listeners),
        questions=len(new.answers),
        alike=sum(one.question in before and _are_alike(one, before[one.question]) for one in new.answers),
        lines=len(new_lines(new, rehearsal.old)),
        alone=rehearsal.alone,
        notes=rehearsal.notes,
        why_not=rehearsal.why_not,
        took_s=round(rehearsal.wall_s, 3),
        cpu_s=round(rehearsal.cpu_s, 3),
        memory_kb=rehearsal.memory_kb,
        disk_kb=rehearsal.disk_kb,
    )


def _are_alike(now: Answered, was: Answered) -> bool:
    """Whether both answer the same. Two that fail are alike: the words of a failure name a worker."""
    return now.answer == was.answer or not (now.good or was.good)
