"""One plain line per event."""

from syrupy.assertion import SnapshotAssertion

from fleet.events import EventType
from fleet.onhost.protocol import Outcome, Step
from fleet.ui.event_lines import plain_line
from tests.support.screens import (
    a_rollout_that_went_wrong,
    an_event,
)


def test_every_plain_line(snapshot: SnapshotAssertion) -> None:
    events = a_rollout_that_went_wrong().events

    assert "\n".join(line for line in map(plain_line, events) if line is not None) == snapshot


def test_a_refused_step_says_host_step_and_reason_and_leaves_the_remedy_to_the_end_of_the_visit() -> None:
    event = an_event(
        EventType.STEP_ENDED,
        host="web-07",
        step=Step.LAUNCH,
        outcome=Outcome.REFUSED,
        message="nginx runs with daemon off.",
        data={"remedy": "Start it with daemon on."},
    )

    line = plain_line(event)

    assert line is not None
    assert line.endswith("web-07: refused to launch: nginx runs with daemon off.")


def test_a_failed_visit_gives_message_and_remedy_as_two_sentences() -> None:
    event = an_event(
        EventType.VISIT_ENDED,
        host="web-07",
        outcome=Outcome.FAILED,
        reason="probe_failed",
        message="emerg in nginx.conf:2",
        data={"ask": "upgrade", "remedy": "Put it right."},
    )

    assert plain_line(event) == "10:00:00  web-07: upgrade failed: emerg in nginx.conf:2. Put it right."
