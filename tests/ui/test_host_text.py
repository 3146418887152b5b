"""A host in few words."""

import pytest

from fleet.onhost.views import RehearsalSummary
from fleet.ui.host_text import rehearsal_text
from tests.support.screens import EVIL

WELL = RehearsalSummary(workers=4, listeners=12, questions=13, alike=13, took_s=0.71)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (WELL, "4 workers, 12 listeners, 13 questions answered as by the running release (0.7 s)"),
        (
            RehearsalSummary(workers=1, listeners=1, questions=1, alike=1, took_s=12),
            "1 worker, 1 listener, 1 question answered as by the running release (12.0 s)",
        ),
        (
            WELL._replace(alike=11, lines=1),
            "4 workers, 12 listeners, 11 of 13 questions answered as by the running release, 1 log line that the running "
            "release does not write (0.7 s)",
        ),
        (
            WELL._replace(alike=0, alone=True),
            "4 workers, 12 listeners, 13 questions answered, the running release not rehearsed (0.7 s)",
        ),
        (RehearsalSummary(lines=3, took_s=0.4), "the new release did not come up (0.4 s)"),
        (RehearsalSummary(why_not="The kernel has no namespaces."), "The kernel has no namespaces."),
        (
            WELL._replace(notes=("One file was not copied.",)),
            "4 workers, 12 listeners, 13 questions answered as by the running release (0.7 s) One file was not copied.",
        ),
    ],
)
def test_a_rehearsal_in_one_line(found: RehearsalSummary, text: str) -> None:
    assert rehearsal_text(found) == text


def test_words_of_a_host_do_not_control_the_terminal() -> None:
    for found in (WELL._replace(notes=(EVIL,)), WELL._replace(why_not=EVIL)):
        assert "\x1b" not in rehearsal_text(found)
