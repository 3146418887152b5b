"""The table of `fleet status` at two widths; it stays one screen long, whatever a host reports."""

import io
from functools import partial

import pytest
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from fleet.onhost.protocol import Ask, Phase, Record, Report
from fleet.onhost.views import DrainView, MasterView, RetirementView, WatcherView
from fleet.rollout.host_status import HostStatus
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.single_visit import decide_single_visit
from fleet.ui.status_table import host_document, table
from tests.support.pretend.visits import NEW, OLD, UNREACHABLE, a_fleet
from tests.support.rollout.playing import a_play
from tests.support.screens import (
    QUICK,
    as_text,
)

MANY = 9_000


@pytest.mark.parametrize("width", [100, 60])
def test_the_status_table_shows_the_held_hosts_and_the_undo_command(width: int, snapshot: SnapshotAssertion) -> None:
    fleet = a_fleet(3)
    fleet.outcomes["web-03", Ask.LOOK].append(UNREACHABLE)
    host = fleet.hosts["web-02"]
    host.held, host.runs, host.record = OLD, NEW, Record("r1", 1, "ann@desk", NEW, OLD, OLD, "2026-11-23T10:00:00.000Z")
    game = a_play(fleet, QUICK)
    game.to_the_end(partial(decide_single_visit, Ask.LOOK, 50))

    assert as_text(table(game.status), width) == snapshot


@pytest.mark.parametrize("phase", [Phase.DOWN, Phase.STRANDED, Phase.FOREIGN])
def test_status_says_what_to_do_about_a_host_that_does_not_serve(phase: Phase) -> None:
    report = a_fleet(1).hosts["web-01"].report()._replace(phase=phase, start_command="/usr/sbin/nginx -g x")
    status = RolloutStatus("look", {"web-01": HostStatus("web-01", report=report)})

    shown = as_text(table(status), 200)

    assert f"web-01: {phase.value}" in shown
    assert ("/usr/sbin/nginx -g x" in shown) == (phase is Phase.DOWN)
    assert ("fleet rollback" in shown) == (phase is Phase.STRANDED)


def test_status_names_the_pid_that_revives_a_stranded_host() -> None:
    fleet = a_fleet(1)
    host = fleet.hosts["web-01"]
    host.held, host.runs = OLD, NEW
    report = host.report()._replace(phase=Phase.STRANDED)
    status = RolloutStatus("look", {"web-01": HostStatus("web-01", report=report)})

    assert "kill -HUP 812" in as_text(table(status), 200)


def test_status_shows_a_pending_drain_and_how_to_end_it() -> None:
    report = a_fleet(1).hosts["web-01"].report()._replace(phase=Phase.TRIAL, held=True, drain_pending=True)
    status = RolloutStatus("look", {"web-01": HostStatus("web-01", report=report)})

    assert "fleet commit --cut" in as_text(table(status), 200)


@pytest.mark.parametrize(
    ("alive", "left_s", "said", "unsaid"),
    [
        (True, 0.0, "Rolls itself back in 0 s", "dead"),
        (
            False,
            240.0,
            "Lease: the watcher is dead since 2026-11-23 10:04:07 UTC, it will not fire. Cure: `fleet resume`",
            "Rolls itself back",
        ),
        (
            False,
            None,
            "Retirement: the watcher is dead since 2026-11-23 10:04:07 UTC, it will not fire.",
            "fleet resume",
        ),
    ],
)
def test_status_says_when_nothing_on_the_host_keeps_its_lease(
    alive: bool, left_s: float | None, said: str, unsaid: str
) -> None:
    watcher = WatcherView(alive, "2026-11-23T10:04:07.123Z")
    report = a_fleet(1).hosts["web-01"].report()
    report = report._replace(phase=Phase.TRIAL, held=True, lease_left_s=left_s, watcher=watcher)
    status = RolloutStatus("look", {"web-01": HostStatus("web-01", report=report)})

    shown = as_text(table(status), 300)

    assert said in shown
    assert unsaid not in shown


MASTERS = (MasterView(812, "a" * 64, "1.26.2", True, 0, 2), MasterView(990, "b" * 64, "1.26.3", False, 4, 0))


@pytest.mark.parametrize(
    ("drain", "text"),
    [
        (
            DrainView(2, 4, 723.0, ((723.0, 4),), 1800.0, 1077.0),
            "Draining for 12m03s: 4 connections on 2 old workers. worker_shutdown_timeout 30m00s cuts them in 17m57s.",
        ),
        (
            DrainView(2, 4, 723.0, ((723.0, 1), (40.0, 3)), silent=2),
            "Draining for 12m03s: 4 connections on 2 old workers (1 for 12m03s, 3 for 40 s; 2 without data for 5m00s). "
            "nginx never closes them: worker_shutdown_timeout is not set.",
        ),
        (
            DrainView(1, 1, changed="changed since it was loaded: /etc/nginx/nginx.conf (2026-11-23 10:00:00)"),
            "Draining, since when is not known: 1 connection on 1 old worker. When nginx closes them is not known: "
            "changed since it was loaded: /etc/nginx/nginx.conf (2026-11-23 10:00:00).",
        ),
    ],
)
def test_status_says_what_drains_since_when_and_when_it_is_cut(drain: DrainView, text: str) -> None:
    report = a_fleet(1).hosts["web-01"].report()._replace(phase=Phase.TRIAL, held=True, masters=MASTERS, drain=drain)
    host = HostStatus("web-01", report=report)

    assert f"web-01: {text}\n" in as_text(table(RolloutStatus("look", {"web-01": host})), 400)
    assert host_document(host)["drain"]["connections"] == drain.connections


@pytest.mark.parametrize(("cut", "then"), [(False, "keep it held"), (True, "are closed")])
def test_status_says_that_a_host_retires_its_old_master_by_itself(cut: bool, then: str) -> None:
    report = (
        a_fleet(1)
        .hosts["web-01"]
        .report()
        ._replace(
            phase=Phase.TRIAL,
            held=True,
            masters=MASTERS,
            drain=DrainView(2, 4, 723.0, ((723.0, 4),)),
            drain_pending=True,
            retirement=RetirementView(3600.0, cut),
        )
    )
    status = RolloutStatus("look", {"web-01": HostStatus("web-01", report=report)})

    shown = as_text(table(status), 400)

    assert "retires its old master by itself once these have ended" in shown
    assert f"Those left in 1h00m {then}." in shown
    assert "fleet commit --cut" not in shown


def test_status_is_silent_about_the_workers_that_a_lone_master_drains_after_a_reload() -> None:
    report = a_fleet(1).hosts["web-01"].report()._replace(drain=DrainView(2, 4, 723.0))
    status = RolloutStatus("look", {"web-01": HostStatus("web-01", report=report)})

    assert "Draining" not in as_text(table(status), 200)


def test_thousands_of_masters_and_orphans_are_counted_on_the_screen_and_listed_in_the_document() -> None:
    masters = tuple(MasterView(pid, "a" * 64, "1.26.2", False, 2, 0) for pid in range(MANY))
    report = Report(
        Phase.FOREIGN, masters, "a" * 64, "1.26.2", "/nginx", "a" * 64, False, None, 0, orphans=tuple(range(MANY))
    )
    host = HostStatus("web-01", 1, report=report)
    status = RolloutStatus("r-1", {"web-01": host}, (("web-01",),))
    screen = io.StringIO()

    Console(file=screen, width=120).print(table(status))

    assert len(screen.getvalue().splitlines()) < 20
    assert "more" in screen.getvalue()
    assert (len(host_document(host)["masters"]), len(host_document(host)["orphans"])) == (MANY, MANY)
