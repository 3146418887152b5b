"""The first events of a run: what it is about, and what is known of its hosts when it begins.

With them a run's status is the fold of its events and of nothing else, so that the journal, read again, gives the very
status that the operator saw: a rollback or a commit begins with what a look has told, a resume with what the journal has.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from fleet.events import Event, EventType
from fleet.rollout.host_status import HostStatus
from fleet.rollout.rollout_status import RolloutStatus


def opening(
    start: RolloutStatus, at: datetime, message: str = "", data: Mapping[str, Any] | None = None
) -> Iterator[Event]:
    """The events whose fold is `start`: the run's own, then one for each host of which something is known."""
    batches = [list(batch) for batch in start.batches]
    told = {**(data or {}), "batches": batches}
    yield Event(at=at, rollout=start.rollout, type=EventType.ROLLOUT_STARTED, message=message, data=told)
    for host in start.all:
        if replace(host, batch=None) != HostStatus(host.name):
            yield Event(
                at=at,
                rollout=start.rollout,
                type=EventType.HOST_KNOWN,
                host=host.name,
                outcome=host.outcome,
                reason=host.reason,
                message=host.message,
                report=host.report,
                data=_known(host),
            )


def _known(host: HostStatus) -> dict[str, Any]:
    """What is known, as plain JSON; `known` gives it back."""
    doubt, cause = host.doubt, host.cause
    return {
        "course": host.course.value,
        "fault": host.fault and host.fault.value,
        "cause": cause and [cause.reason, cause.message, cause.remedy],
        "doubt": doubt and [doubt.ask.value, doubt.lost_at.isoformat(), doubt.next_at.isoformat(), doubt.tries],
        "remedy": host.remedy,
        "was_first": host.first is not None,
        "proven": host.proven,
    }
