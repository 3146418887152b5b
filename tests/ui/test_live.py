"""The live view at several sizes of the terminal."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from syrupy.assertion import SnapshotAssertion

from fleet.onhost.protocol import Ask
from fleet.rollout.policy import CommitWhen
from fleet.rollout.rollback import rollback_status
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.single_visit import decide_single_visit
from fleet.rollout.upgrade import decide
from fleet.ui.live import view
from tests.support.pretend.visits import AT, a_fleet
from tests.support.rollout.playing import a_play, play
from tests.support.screens import QUICK, a_rollout_that_went_wrong, as_text, in_the_middle, three_hundred_hosts


@pytest.mark.parametrize("width", [100, 60])
def test_the_live_view_shows_the_running_hosts(width: int, snapshot: SnapshotAssertion) -> None:
    status = in_the_middle()

    assert as_text(view(status, AT + timedelta(seconds=95), width, 20), width) == snapshot


@pytest.mark.parametrize("height", [4, 8, 24])
def test_the_live_view_never_outgrows_the_screen(height: int) -> None:
    status = three_hundred_hosts()

    lines = as_text(view(status, AT, 80, height), 80).splitlines()

    assert len(lines) <= height
    assert max(len(line) for line in lines) <= 80


def test_a_host_in_its_upgrade_is_not_counted_as_not_begun() -> None:
    game = a_play(a_fleet(4), QUICK)
    seen: list[RolloutStatus] = []

    def watch(status: RolloutStatus, actions: tuple[object, ...]) -> None:
        if any(host.running is not None and host.running.ask is Ask.UPGRADE for host in status.all):
            seen.append(status)

    game.watch = watch
    game.to_the_end(partial(decide, QUICK))

    assert "2 of 4 done · 1 upgrading · 1 not begun" in as_text(view(seen[0], AT, 80, 20), 80)


def test_a_host_that_needs_a_person_is_shown_before_all_others() -> None:
    lines = as_text(view(a_rollout_that_went_wrong().status, AT, 80, 20), 80).splitlines()

    assert [line.split(":")[0].strip() for line in lines[4:6]] == ["web-03", "web-02"]


def test_the_key_explains_the_letters_on_the_screen_and_no_others() -> None:
    lines = as_text(view(a_rollout_that_went_wrong().status, AT, 80, 20), 80).splitlines()

    assert lines[2:4] == ["<x!sss", "! needs a person  x failed  < rolled back  s staged"]


def test_a_rollback_in_the_live_view_does_not_call_held_hosts_not_begun() -> None:
    fleet = a_fleet(3)
    play(fleet, replace(QUICK, commit=CommitWhen.NEVER))
    looked = a_play(fleet, QUICK)
    looked.to_the_end(partial(decide_single_visit, Ask.LOOK, 50))

    shown = as_text(view(rollback_status(looked.status, "20261123-1000-test"), AT, 80, 20), 80)

    assert "0 of 3 done · 3 begun" in shown
