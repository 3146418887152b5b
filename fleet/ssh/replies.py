"""A host's replies, which are not trusted: decoded, checked, made safe for a terminal, and turned into events."""

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
# The other outcomes are the controller's: a host can't know them.
HOST_OUTCOMES = (Outcome.DONE, Outcome.REFUSED, Outcome.FAILED)
SHOWN_BYTES = 120
MAX_ITEMS = 10_000
"""In one list of a reply. The longest real one is orphan workers after many reloads."""
MAX_S = 1e10
"""The most seconds that a reply may name (317 years): a `datetime` can still hold it."""
# A reason of the link in a host's reply would look like fleet's own finding (a changed host key, for instance).
LINK_ONLY = frozenset(WORDS) - frozenset(REASONS)


def read_reply(line: bytes) -> Reply:
    """The reply in a line, with every text safe for a terminal. Raises `LinkError`: `garbled`."""
    try:
        reply: Reply = decode(Reply, line.decode("utf-8", "replace"))
    except (Malformed, RecursionError) as error:
        shown = safe(line[:SHOWN_BYTES].decode("utf-8", "replace"))
        raise _garbled(f"{safe(str(error))} in the line {shown!r}") from error
    if reply.protocol != PROTOCOL:
        raise _garbled(f"its protocol is {reply.protocol}, this fleet's is {PROTOCOL}")
    if reply.outcome not in (None, *HOST_OUTCOMES):
        raise _garbled(f"a host can't report the outcome {reply.outcome.value}")
    if reply.type is ReplyType.OUTCOME and reply.outcome is None:
        raise _garbled("its outcome reply has no outcome")
    if reply.reason in LINK_ONLY:
        raise _garbled(f"a host can't report the reason {reply.reason}")
    found: Reply = sanitized(reply)
    return found


def check_consistency(reply: Reply, request: Request) -> None:
    """Raises `LinkError` (`garbled`) when an outcome contradicts itself.

    In TRIAL and NEW the host must run the release of the request, or the one in its record. An upgrade that is done must
    carry a report.
    """
    report = reply.report
    is_upgraded = request.ask is Ask.UPGRADE and reply.outcome is Outcome.DONE
    if report is None:
        if is_upgraded:
            raise _garbled("it reports an upgrade as done, without its phase")
        return
    if report.phase not in (Phase.TRIAL, Phase.NEW):
        return
    named = report.record.target if report.record is not None else report.running_sha256
    asked = request.goal.target if is_upgraded and request.goal is not None else named
    if {named, asked} != {report.running_sha256}:
        runs, wanted = (each[:12] if each else "an unknown release" for each in (report.running_sha256, asked))
        raise _garbled(f"it reports {report.phase.value} for release {wanted}, and runs {runs}")


def sanitized(value: Any) -> Any:
    """The same value with every text in it printable. Raises `LinkError` (`garbled`) for absurd numbers and lists."""
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, float) and not abs(value) <= MAX_S:
        raise _garbled(f"it names {value:g} seconds")
    if hasattr(value, "_fields"):
        return type(value)(*(sanitized(item) for item in value))
    if isinstance(value, tuple):
        if len(value) > MAX_ITEMS:
            raise _garbled(f"it holds a list of {len(value)} items")
        return tuple(sanitized(item) for item in value)
    return value


def event_fields(reply: Reply) -> dict[str, Any] | None:
    """The fields of the event that tells of this reply; `None` for replies that are no event."""
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
        f"The host's answer is not a reply of the step script: {why}.",
        "See what else writes to stdout in that login (.bashrc, .profile); then run fleet status.",
    )
