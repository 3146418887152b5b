"""A rehearsal in numbers and sentences, as the host reports it and writes it into its journal."""

from fleet.onhost.protocol import RehearsalSummary
from fleet.onhost.rehearsal.evidence import Answered, Generation, Rehearsal


def summary(rehearsal: Rehearsal) -> RehearsalSummary:
    """What the rehearsal showed of the new release, beside the running one's answers."""
    old, new = rehearsal.old or Generation(0.0), rehearsal.new or Generation(0.0)
    before = {one.question: one for one in old.answers}
    return RehearsalSummary(
        workers=new.workers,
        listeners=len(new.listeners),
        questions=len(new.answers),
        alike=sum(one.question in before and _are_alike(one, before[one.question]) for one in new.answers),
        lines=len(new.lines),
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
