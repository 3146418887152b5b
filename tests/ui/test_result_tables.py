"""The tables of results, and text from hosts in them: it never controls the terminal."""

from dataclasses import replace
from functools import partial

import pytest
from syrupy.assertion import SnapshotAssertion

from fleet.onhost.protocol import Ask, Finding, Phase, Severity
from fleet.rollout.single_visit import decide_single_visit
from fleet.ui.result_tables import findings_table, host_errors, summary_table
from tests.support.pretend.visits import REFUSED, a_fleet
from tests.support.rollout.playing import a_play, play
from tests.support.screens import (
    EVIL,
    QUICK,
    a_rollout_that_went_wrong,
    as_text,
)


@pytest.mark.parametrize("width", [100, 60])
def test_the_summary_has_a_row_per_host(width: int, snapshot: SnapshotAssertion) -> None:
    status = a_rollout_that_went_wrong().status

    assert as_text(summary_table(status), width) + as_text(host_errors(status), width) == snapshot


def test_the_findings_have_their_remedies(snapshot: SnapshotAssertion) -> None:
    fleet = a_fleet(2)
    fleet.outcomes["web-01", Ask.STAGE].append(REFUSED)
    game = a_play(fleet, QUICK)
    game.to_the_end(partial(decide_single_visit, Ask.STAGE, 50))
    found = Finding("quic", Severity.REFUSAL, "HTTP/3 without quic_bpf.", "Set quic_bpf on.", overridable=True)
    hosts = [game.status.hosts["web-01"], replace(game.status.hosts["web-02"], findings=(found,))]

    assert as_text(findings_table(hosts), 100) == snapshot


def test_markup_in_the_text_of_a_host_is_shown_literally() -> None:
    fleet = a_fleet(1)
    game = play(fleet, QUICK)[1]
    host = game.status.hosts["web-01"]
    assert host.report is not None
    evil = replace(host, report=host.report._replace(running_version=EVIL), last=replace(host.last, message=EVIL))

    shown = as_text(summary_table(replace(game.status, hosts={"web-01": evil})), 200)

    assert "[red]" in shown
    assert "\x1b" not in shown


def test_the_phase_of_an_unreachable_host_is_not_shown() -> None:
    status = a_rollout_that_went_wrong().status

    row = next(line for line in as_text(summary_table(status), 160).splitlines() if line.startswith("web-03"))

    assert status.hosts["web-03"].phase is Phase.OLD
    assert "OLD" not in row
    assert "needs a person" in row
