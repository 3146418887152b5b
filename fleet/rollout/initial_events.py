"""The first events of a run: what it is about, and what is known of its hosts when it begins.

A rollback or a commit begins with what a look has shown, a resume with what the journal holds. These events carry that
knowledge, so a run's status is the fold of its events alone, and the journal gives back the status that the operator saw.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from fleet.events import Event, EventType
from fleet.rollout.host_status import HostStatus
from fleet.rollout.rollout_status import RolloutStatus
from fleet.typed_command import UNTYPED


def initial_events(
    start: RolloutStatus, at: datetime, message: str = "", data: Mapping[str, Any] | None = None
) -> Iterator[Event]:
    """The events whose fold is `start`: the run's own, then one for each host of which something is known."""
    batches = [list(batch) for batch in start.batches]
    facts = {**(data or {}), "batches": batches}
    if start.typed != UNTYPED:
        facts["command_line"] = start.typed.to_plain()
    yield Event(at=at, rollout=start.rollout, type=EventType.ROLLOUT_STARTED, message=message, data=facts)
    for host in start.all:
        if replace(host, batch=None) != HostStatus(host.name):
            yield Event(
                at=at,
                rollout=start.rollout,
                type=EventType.HOST_KNOWN,
                host=host.name,
                outcome=host.last.outcome,
                reason=host.last.reason,
                message=host.last.message,
                report=host.report,
                data=_known(host),
            )


def _known(host: HostStatus) -> dict[str, Any]:
    """The status as plain JSON. The keys are the journal's, which older journals have too."""
    visit, fault = host.unresolved, host.fault
    return {
        "course": host.progress.value,
        "fault": fault and fault.kind.value,
        "cause": fault and [fault.reason, fault.message, fault.remedy],
        "gave_up_on": fault and fault.gave_up_on and fault.gave_up_on.value,
        "doubt": visit and [visit.ask.value, visit.lost_at.isoformat(), visit.next_at.isoformat(), visit.tries],
        "remedy": host.last.remedy,
        "was_first": host.first_report is not None,
        "proven": host.passed_gate,
    }
