"""What a host says, taken as data: decoded, checked for sense, made sanitized, and told on as events."""

from typing import Any

from fleet.events import EventType
from fleet.onhost.protocol import (
    PROTOCOL,
    Ask,
    Finding,
    Outcome,
    Phase,
    Reply,
    ReplyType,
    Request,
    Severity,
)
from fleet.onhost.reasons.catalogue import REASONS
from fleet.onhost.text import safe
from fleet.onhost.wire import Malformed, decode
from fleet.ssh.link_errors import LinkError
from fleet.ssh.reasons import WORDS

EVENT_TYPES = {
    ReplyType.STEP_STARTED: EventType.STEP_STARTED,
    ReplyType.STEP_ENDED: EventType.STEP_ENDED,
    ReplyType.FINDING: EventType.FINDING,
}
# The others are the controller's words: a host can't know them of itself.
HOST_OUTCOMES = (Outcome.DONE, Outcome.REFUSED, Outcome.FAILED)
SHOWN_BYTES = 120
MAX_ITEMS = 10_000
"""Of one list: workers without a master, say, after many reloads."""
MAX_S = 1e10
"""More seconds than a host can mean (317 years), and no more than a `datetime` can bear."""
# A word of the link in a host's mouth would be told as what fleet itself has found: that a key has changed, say.
LINK_ONLY = frozenset(WORDS) - frozenset(REASONS)


def read_reply(line: bytes) -> Reply:
    """The reply that a line holds, without anything in it that a terminal would obey. Raises `LinkError`: `garbled`."""
    try:
        reply: Reply = decode(Reply, line.decode("utf-8", "replace"))
    except (Malformed, RecursionError) as error:
        shown = safe(line[:SHOWN_BYTES].decode("utf-8", "replace"))
        raise _garbled(f"{safe(str(error))} in the line {shown!r}") from error
    if reply.protocol != PROTOCOL:
        raise _garbled(f"it speaks protocol {reply.protocol}, this fleet {PROTOCOL}")
    if reply.outcome not in (None, *HOST_OUTCOMES):
        raise _garbled(f"it says of itself {reply.outcome.value}")
    if reply.type is ReplyType.OUTCOME and reply.outcome is None:
        raise _garbled("its outcome says nothing")
    if reply.reason in LINK_ONLY:
        raise _garbled(f"it says of itself {reply.reason}")
    found: Reply = sanitized(reply)
    return found


def check_consistency(reply: Reply, request: Request) -> None:
    """What an outcome says does not contradict itself. Raises `LinkError`: `garbled`.

    Who runs the new release (TRIAL, NEW) runs the one that was asked for, or that its record names; who says that an
    upgrade is done shows where it stands.
    """
    report = reply.report
    is_upgraded = request.ask is Ask.UPGRADE and reply.outcome is Outcome.DONE
    if report is None:
        if is_upgraded:
            raise _garbled("it says that the upgrade is done, and not where it stands")
        return
    if report.phase not in (Phase.TRIAL, Phase.NEW):
        return
    named = report.record.target if report.record is not None else report.running_sha256
    asked = request.goal.target if is_upgraded and request.goal is not None else named
    if {named, asked} != {report.running_sha256}:
        shown, meant = (each[:12] if each else "nothing that is known" for each in (report.running_sha256, asked))
        raise _garbled(f"it says {report.phase.value} of release {meant}, and runs {shown}")


def sanitized(value: Any) -> Any:
    """The same value with every text in it made printable. Raises `LinkError` (`garbled`) for what is beyond all sense."""
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, float) and not abs(value) <= MAX_S:
        raise _garbled(f"it says {value:g} seconds")
    if hasattr(value, "_fields"):
        return type(value)(*(sanitized(item) for item in value))
    if isinstance(value, tuple):
        if len(value) > MAX_ITEMS:
            raise _garbled(f"a list of {len(value)}")
        return tuple(sanitized(item) for item in value)
    return value


def event_fields(reply: Reply) -> dict[str, Any] | None:
    """The fields of the event that tells of this reply; `None` for replies that are not told on."""
    kind = EVENT_TYPES.get(reply.type)
    if kind is None:
        return None
    data: dict[str, Any] = {"remedy": reply.remedy} if reply.remedy else {}
    if kind is EventType.FINDING:
        data["severity"] = (reply.severity or Severity.REFUSAL).value
        data["overridable"] = reply.overridable
    return {
        "type": kind,
        "step": reply.step,
        "outcome": reply.outcome,
        "reason": reply.reason,
        "message": reply.message,
        "took_s": reply.took_s,
        "data": data,
    }


def finding_of(reply: Reply) -> Finding:
    """The finding that a reply of that type carries."""
    severity = reply.severity or Severity.REFUSAL
    return Finding(reply.reason or "unnamed", severity, reply.message, reply.remedy, reply.overridable)


def _garbled(why: str) -> LinkError:
    return LinkError(
        "garbled",
        f"What the host answered is not the step script's language: {why}.",
        "See what else writes to that login's stdout; then ask again: fleet status.",
    )
