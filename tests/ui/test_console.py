"""What people see, as text: lines, tables and the live view at two widths. Nothing a host says may steer a terminal."""

import io
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial

import pytest
from syrupy.assertion import SnapshotAssertion

from fleet.events import Event, EventType
from fleet.onhost.protocol import Ask, Finding, Outcome, Phase, Record, Severity, Step
from fleet.onhost.text import safe
from fleet.rollout.host_status import HostStatus
from fleet.rollout.policy import CommitWhen, Policy
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.unbatched import decide_ask, undoing
from fleet.rollout.upgrade import decide
from fleet.ui import status_table as face
from fleet.ui.console import as_text, findings_table, plain_line, summary, troubles
from fleet.ui.live import view
from fleet.ui.output import Mode, output_for
from tests.support.pretend.visits import AT, LOST_AFTER, NEW, OLD, REFUSED, UNREACHABLE, WENT_BACK, a_fleet
from tests.support.rollout.playing import Play, a_play, play

QUICK = Policy(bake_s=0.0)
EVIL = "1.26\x1b[2J\x1b]0;owned\x07[red]\r\nmore\u202e"


def an_event(kind: EventType, **values: object) -> Event:
    return replace(Event(AT, "20261123-1000-test", kind), **values)  # type: ignore[arg-type]


def a_rollout_that_went_wrong() -> Play:
    """One host failed, one fell silent, one is taken back, three never began."""
    fleet = a_fleet(6)
    fleet.trouble["web-02", Ask.UPGRADE].append(WENT_BACK)
    fleet.trouble["web-03", Ask.UPGRADE].append(LOST_AFTER)
    for ask in (Ask.LOOK, Ask.ROLLBACK):
        fleet.trouble["web-03", ask].extend([UNREACHABLE] * 99)
    return play(fleet, QUICK)[1]


@cache
def three_hundred_hosts() -> RolloutStatus:
    """Most of them at fault."""
    fleet = a_fleet(300)
    for number in range(50, 300):
        fleet.trouble[f"web-{number:02}", Ask.UPGRADE].append(WENT_BACK)
    return play(fleet, replace(QUICK, max_failures=300), sizes=(300,))[1].status


def in_the_middle() -> RolloutStatus:
    """A rollout whose second batch is under way."""
    fleet = a_fleet(6)
    game = a_play(fleet, QUICK)
    seen: list[RolloutStatus] = []

    def watch(status: RolloutStatus, moves: tuple[object, ...]) -> None:
        if status.batch == 2 and status.busy == 2:
            seen.append(status)

    game.watch = watch
    game.to_the_end(partial(decide, QUICK))
    return seen[0]


@pytest.mark.parametrize("width", [100, 60])
def test_the_summary_has_a_row_per_host(width: int, snapshot: SnapshotAssertion) -> None:
    status = a_rollout_that_went_wrong().status

    assert as_text(summary(status), width) + as_text(troubles(status), width) == snapshot


@pytest.mark.parametrize("width", [100, 60])
def test_the_live_view_tells_what_is_under_way(width: int, snapshot: SnapshotAssertion) -> None:
    status = in_the_middle()

    assert as_text(view(status, AT + timedelta(seconds=95), width, 20), width) == snapshot


@pytest.mark.parametrize("height", [4, 8, 24])
def test_the_live_view_never_outgrows_the_screen(height: int) -> None:
    status = three_hundred_hosts()

    lines = as_text(view(status, AT, 80, height), 80).splitlines()

    assert len(lines) <= height
    assert max(len(line) for line in lines) <= 80


@pytest.mark.parametrize("width", [100, 60])
def test_the_status_table_says_who_is_held_and_how_to_undo(width: int, snapshot: SnapshotAssertion) -> None:
    fleet = a_fleet(3)
    fleet.trouble["web-03", Ask.LOOK].append(UNREACHABLE)
    host = fleet.hosts["web-02"]
    host.held, host.runs, host.record = OLD, NEW, Record("r1", 1, "ann@desk", NEW, OLD, OLD, "2026-11-23T10:00:00.000Z")
    game = a_play(fleet, QUICK)
    game.to_the_end(partial(decide_ask, Ask.LOOK, 50))

    assert as_text(face.table(game.status), width) == snapshot


def test_the_findings_are_told_with_their_remedies(snapshot: SnapshotAssertion) -> None:
    fleet = a_fleet(2)
    fleet.trouble["web-01", Ask.STAGE].append(REFUSED)
    game = a_play(fleet, QUICK)
    game.to_the_end(partial(decide_ask, Ask.STAGE, 50))
    found = Finding("quic", Severity.REFUSAL, "HTTP/3 without quic_bpf.", "Set quic_bpf on.", overridable=True)
    hosts = [game.status.hosts["web-01"], replace(game.status.hosts["web-02"], findings=(found,))]

    assert as_text(findings_table(hosts), 100) == snapshot


def test_every_plain_line(snapshot: SnapshotAssertion) -> None:
    events = a_rollout_that_went_wrong().events

    assert "\n".join(line for line in map(plain_line, events) if line is not None) == snapshot


def test_a_refused_step_says_host_step_reason_and_remedy() -> None:
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
    assert line.endswith("web-07: refused to launch: nginx runs with daemon off. Start it with daemon on.")


def test_a_visit_that_failed_says_why_in_words_and_the_remedy_in_a_sentence_of_its_own() -> None:
    event = an_event(
        EventType.VISIT_ENDED,
        host="web-07",
        outcome=Outcome.FAILED,
        reason="probe_failed",
        message="emerg in nginx.conf:2",
        data={"ask": "upgrade", "remedy": "Put it right."},
    )

    assert plain_line(event) == "10:00:00  web-07: upgrade failed: emerg in nginx.conf:2. Put it right."


def lines_of(*events: Event, verbose: int = 0) -> list[str]:
    """What is written for these events, one line each."""
    err = io.StringIO()
    with output_for(io.StringIO(), err, "plain", verbose).telling() as (observers, _):
        for event in events:
            observers[0](event, RolloutStatus())
    return err.getvalue().splitlines()


def test_a_refusal_that_was_told_as_a_finding_is_not_told_again_by_the_visit() -> None:
    finding = an_event(EventType.FINDING, host="web-07", reason="quic", message="HTTP/3 without quic_bpf.")
    end = an_event(EventType.VISIT_ENDED, host="web-07", outcome=Outcome.REFUSED, reason="quic", data={"ask": "stage"})

    assert len(lines_of(finding, end)) == 1
    assert len(lines_of(finding, replace(end, reason="timeout"))) == 2
    assert len(lines_of(finding, an_event(EventType.VISIT_STARTED, host="web-07"), end)) == 2


def test_the_end_is_told_once_after_the_table_and_not_among_the_events() -> None:
    assert lines_of(an_event(EventType.ROLLOUT_ENDED, message="Completed"), verbose=1) == []


class Screen(io.StringIO):
    """A stream that may be a terminal."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.mark.parametrize("mode", ["auto", "live"])
@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_only_a_terminal_gets_the_live_view_whatever_is_said_of_colours(
    mode: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, "1")

    assert output_for(Screen(False), Screen(False), mode).mode is Mode.PLAIN
    assert output_for(Screen(False), Screen(True), mode).mode is Mode.LIVE


@pytest.mark.parametrize("phase", [Phase.DOWN, Phase.STRANDED, Phase.FOREIGN])
def test_status_says_what_to_do_about_a_host_in_trouble(phase: Phase) -> None:
    report = a_fleet(1).hosts["web-01"].report()._replace(phase=phase, start_command="/usr/sbin/nginx -g x")
    status = RolloutStatus("look", {"web-01": HostStatus("web-01", report=report)})

    shown = as_text(face.table(status), 200)

    assert f"web-01: {phase.value}" in shown
    assert ("/usr/sbin/nginx -g x" in shown) == (phase is Phase.DOWN)


def test_status_says_that_a_drain_is_pending_and_how_to_end_it() -> None:
    report = a_fleet(1).hosts["web-01"].report()._replace(phase=Phase.TRIAL, held=True, drain_pending=True)
    status = RolloutStatus("look", {"web-01": HostStatus("web-01", report=report)})

    assert "fleet commit --cut" in as_text(face.table(status), 200)


def test_a_rollback_in_the_live_view_does_not_call_held_hosts_not_begun() -> None:
    fleet = a_fleet(3)
    play(fleet, replace(QUICK, commit=CommitWhen.NEVER))
    looked = a_play(fleet, QUICK)
    looked.to_the_end(partial(decide_ask, Ask.LOOK, 50))

    shown = as_text(view(undoing(looked.status, "20261123-1000-test"), AT, 80, 20), 80)

    assert "0 of 3 done · 3 begun" in shown


@pytest.mark.parametrize("text", [EVIL, "\x9b31m", "\u2028", "\x00", "a\tb"])
def test_nothing_a_host_says_reaches_the_terminal_as_a_control(text: str) -> None:
    assert safe(text).isprintable()


def test_markup_in_a_host_s_words_is_shown_and_not_obeyed() -> None:
    fleet = a_fleet(1)
    game = play(fleet, QUICK)[1]
    host = game.status.hosts["web-01"]
    assert host.report is not None
    evil = replace(host, report=host.report._replace(running_version=EVIL), message=EVIL)

    shown = as_text(summary(replace(game.status, hosts={"web-01": evil})), 200)

    assert "[red]" in shown
    assert "\x1b" not in shown


def test_a_host_that_fell_silent_has_no_phase_any_more() -> None:
    status = a_rollout_that_went_wrong().status

    row = next(line for line in as_text(summary(status), 160).splitlines() if line.startswith("web-03"))

    assert status.hosts["web-03"].phase is Phase.OLD
    assert "OLD" not in row
    assert "a person must look" in row
