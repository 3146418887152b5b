"""Which stream gets what, and which events are shown."""

import io
from dataclasses import replace

import pytest
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fleet.events import Event, EventType
from fleet.onhost.protocol import Outcome
from fleet.rollout.rollout_status import RolloutStatus
from fleet.ui.output import Mode, output_for
from tests.support.screens import (
    Screen,
    an_event,
)


def lines_of(*events: Event, verbose: int = 0) -> list[str]:
    """The output for these events, one line each."""
    err = io.StringIO()
    with output_for(io.StringIO(), err, "plain", verbose).progress() as (observers, _):
        for event in events:
            observers[0](event, RolloutStatus())
    return err.getvalue().splitlines()


def test_a_refusal_shown_as_a_finding_is_not_repeated_at_the_end_of_the_visit() -> None:
    finding = an_event(EventType.FINDING, host="web-07", reason="quic", message="HTTP/3 without quic_bpf.")
    end = an_event(EventType.VISIT_ENDED, host="web-07", outcome=Outcome.REFUSED, reason="quic", data={"ask": "stage"})

    assert len(lines_of(finding, end)) == 1
    assert len(lines_of(finding, replace(end, reason="timeout"))) == 2
    assert len(lines_of(finding, an_event(EventType.VISIT_STARTED, host="web-07"), end)) == 2


def test_the_end_of_the_rollout_is_not_printed_among_the_events() -> None:
    assert lines_of(an_event(EventType.ROLLOUT_ENDED, message="Completed"), verbose=1) == []


def test_a_line_of_a_result_is_never_wrapped_and_a_table_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    table = Table("a", box=None)
    table.add_row("word " * 10)
    out = io.StringIO()

    output_for(out, io.StringIO(), "plain").result(Group(table, Group(Text("word " * 10))))

    *rows, line = out.getvalue().splitlines()
    assert max(map(len, rows)) <= 20
    assert line == "word " * 10


@pytest.mark.parametrize("mode", ["auto", "live"])
@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_only_a_terminal_gets_the_live_view_whatever_the_colour_settings(
    mode: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, "1")

    assert output_for(Screen(False), Screen(False), mode).mode is Mode.PLAIN
    assert output_for(Screen(False), Screen(True), mode).mode is Mode.LIVE
