"""What happens in a rollout, as values: visits report events, the engine folds them, the user interface shows them.

`to_json` is for readers and a promise (`fleet.event/1`): keys may be added, none changes its meaning. It leaves out the
report. `dump` and `load` are the journal's own form and lose nothing: the events that `load` gives fold to the same status.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from fleet.onhost.protocol import Outcome, Report, Step
from fleet.onhost.wire import Malformed, encode, from_plain

SCHEMA = "fleet.event/1"


class EventType(Enum):
    """Every type of event. The value is the `type` in the JSON."""

    ROLLOUT_STARTED = "rollout_started"
    HOST_KNOWN = "host_known"
    STAGE_STARTED = "stage_started"
    STAGE_ENDED = "stage_ended"
    BATCH_OPENED = "batch_opened"
    BATCH_CLOSED = "batch_closed"
    GATE_JUDGED = "gate_judged"
    COMMIT_STARTED = "commit_started"
    ROLLBACK_STARTED = "rollback_started"
    VISIT_STARTED = "visit_started"
    VISIT_ENDED = "visit_ended"
    STEP_STARTED = "step_started"
    STEP_ENDED = "step_ended"
    FINDING = "finding"
    NOTE = "note"
    ROLLOUT_ENDED = "rollout_ended"


class Note(Enum):
    """The notes about the run itself that change how it continues. The value is the event's `reason`."""

    INTERRUPTED = "interrupted"
    LINKS_CUT = "cut"
    FLEET_BUG = "fleet_bug"
    JOURNAL_LOST = "journal_lost"
    LOCK_TAKEN_OVER = "taken_over"
    LAST_LOOK = "last_look"
    LOCK_WAIT = "lock_wait"


_NOTES = {each.value: each for each in Note}


class Alarm(Enum):
    """The reasons that the operator must not miss: someone may be intercepting the connection."""

    HOST_KEY_CHANGED = "host_key_changed"
    HOST_KEY_REVOKED = "host_key_revoked"

    @classmethod
    def of(cls, reason: str | None) -> "Alarm | None":
        """The alarm with this reason; `None` for any other reason."""
        return _ALARMS.get(reason or "")


_ALARMS = {each.value: each for each in Alarm}


class Result(Enum):
    """How a rollout ended."""

    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"
    HALTED = "halted"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `took_s` is measured on the monotonic clock; `data` holds keys that only some types have."""

    at: datetime
    rollout: str
    type: EventType
    host: str | None = None
    batch: int | None = None
    step: Step | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    message: str = ""
    took_s: float | None = None
    report: Report | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def note(self) -> Note | None:
        """The note about the run that this event is; `None` for other events and for notes that are only shown to people."""
        return _NOTES.get(self.reason or "") if self.type is EventType.NOTE and self.host is None else None

    @property
    def alarm(self) -> Alarm | None:
        """The alarm that this event raises, if any."""
        return Alarm.of(self.reason)

    def to_json(self) -> str:
        """One line of JSON, without control characters."""
        plain: dict[str, Any] = {
            "schema": SCHEMA,
            "at": self.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "rollout": self.rollout,
            "type": self.type.value,
            "host": self.host,
            "batch": self.batch,
            "step": self.step and self.step.value,
            "outcome": self.outcome and self.outcome.value,
            "reason": self.reason,
            "message": self.message,
            "took_s": None if self.took_s is None else round(self.took_s, 3),
            **self.data,
        }
        if self.report is not None:
            plain["phase"] = self.report.phase.value
            if self.report.rehearsal is not None:
                plain["rehearsal"] = self.report.rehearsal._asdict()
        return json.dumps(plain)


def dump(event: Event) -> str:
    """The whole event as one line of ASCII, for `load`. `data` must be plain JSON: lists, not tuples."""
    plain: dict[str, Any] = {
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "rollout": event.rollout,
        "type": event.type.value,
        "host": event.host,
        "batch": event.batch,
        "step": event.step and event.step.value,
        "outcome": event.outcome and event.outcome.value,
        "reason": event.reason,
        "message": event.message,
        "took_s": event.took_s,
        "data": dict(event.data),
    }
    kept = {name: value for name, value in plain.items() if value is not None}
    text = json.dumps(kept, separators=(",", ":"), allow_nan=False)
    return text if event.report is None else f'{text[:-1]},"report":{encode(event.report)}}}'


def load(text: str) -> Event:
    """The event that `dump` wrote. Raises `Malformed` for a text that this version of fleet can't read."""
    try:
        plain = json.loads(text)
        report = plain.get("report")
        return Event(
            at=datetime.fromisoformat(plain["at"]),
            rollout=plain["rollout"],
            type=EventType(plain["type"]),
            host=plain.get("host"),
            batch=plain.get("batch"),
            step=Step(plain["step"]) if "step" in plain else None,
            outcome=Outcome(plain["outcome"]) if "outcome" in plain else None,
            reason=plain.get("reason"),
            message=plain["message"],
            took_s=plain.get("took_s"),
            report=None if report is None else from_plain(Report, report),
            data=plain["data"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Malformed(f"no event that this fleet can read: {error}") from error


Sink = Callable[[Event], None]
"""Where a visit puts its events: on the laptop the engine's queue."""
