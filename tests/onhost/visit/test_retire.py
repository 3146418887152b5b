"""A commit that was left to the host, on a model of nginx: when it is finished, what stops it, and what is written down."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.onhost.protocol import Phase, State
from fleet.onhost.state import retirement
from tests.support.onhost.kept import KeptInMemory
from tests.support.pretend.host import AT, Pretend
from tests.support.pretend.visits import a_fleet
from tests.support.rollout.from_hosts import HELD, WHEN_DRAINED, commit, rollback
from tests.support.rollout.playing import play

LEFT = replace(WHEN_DRAINED, within_s=3600.0)


def a_host_that_was_left(cut: bool = False) -> Pretend:
    """A held host whose commit was left to it while an old worker drains."""
    fleet = a_fleet(1)
    host = fleet.hosts["web-01"]
    play(fleet, HELD)
    host.drains_on = True
    commit(fleet, replace(LEFT, cut=cut))
    assert host.report().retirement is not None
    return host


def notes(host: Pretend) -> list[str]:
    """What the host's journal says of the retirement, in order."""
    assert isinstance(host.own, KeptInMemory)
    return [str(entry["retirement"]) for entry in host.own.entries if "retirement" in entry]


def later(host: Pretend, seconds: float) -> None:
    host.machine.clock = lambda: AT + timedelta(seconds=seconds)


def test_while_an_old_worker_drains_there_is_nothing_to_do_before_the_deadline() -> None:
    host = a_host_that_was_left()

    assert retirement.due_in_s(host.own) == 3600.0
    later(host, 600.0)
    assert retirement.due_in_s(host.own) == 3000.0
    host.mind_retirement()

    assert host.phase() is Phase.TRIAL
    assert notes(host) == ["left_to_host"]


def test_the_old_master_is_retired_once_its_last_worker_has_gone() -> None:
    host = a_host_that_was_left()

    host.drains_on = False
    host.mind_retirement()

    assert host.phase() is Phase.NEW
    assert host.record is not None
    assert (host.record.state, host.record.why) == (State.COMMITTED, "")
    assert host.report().retirement is None
    assert notes(host) == ["left_to_host", "due", "ended"]


def test_an_old_master_that_a_reload_has_revived_is_drained_again_and_waited_for() -> None:
    host = a_host_that_was_left()
    host.model = host.model.hup_old()
    host.drains_on = True  # The new set has its own downloads, once it drains.

    host.mind_retirement()

    assert host.phase() is Phase.TRIAL
    assert host.report().retirement is not None
    assert (retirement.due_in_s(host.own) or 0.0) > 0.0
    host.drains_on = False
    host.mind_retirement()
    assert host.phase() is Phase.NEW


def test_at_the_deadline_the_host_stays_held_and_its_record_says_why() -> None:
    host = a_host_that_was_left()

    later(host, 3601.0)
    host.mind_retirement()

    assert host.phase() is Phase.TRIAL
    assert host.record is not None
    assert host.record.state is State.BEGUN
    assert "1 old worker still drain" in host.record.why
    assert "`fleet commit --cut`" in host.record.why
    assert (host.report().retirement, host.report().lease_left_s) == (None, None)


def test_at_the_deadline_the_connections_are_cut_where_the_operator_said_so() -> None:
    host = a_host_that_was_left(cut=True)

    later(host, 3601.0)
    host.mind_retirement()

    assert host.phase() is Phase.NEW
    assert host.record is not None
    assert host.record.state is State.COMMITTED


def test_a_rollback_before_that_takes_the_host_back_and_nothing_is_retired_later() -> None:
    fleet = a_fleet(1)
    host = fleet.hosts["web-01"]
    play(fleet, HELD)
    host.drains_on = True
    commit(fleet, LEFT)
    host.drains_on = False

    end, _ = rollback(fleet)

    assert (end.exit_code, host.phase(), host.report().retirement) == (0, Phase.OLD, None)
    later(host, 7200.0)
    host.mind_retirement()
    assert host.phase() is Phase.OLD


def test_a_host_that_another_rollout_has_taken_over_is_left_alone() -> None:
    host = a_host_that_was_left()
    host.epoch = 9

    host.drains_on = False
    host.mind_retirement()

    assert host.phase() is Phase.TRIAL
    assert host.record is not None
    assert (host.record.state, host.record.why) == (State.BEGUN, "")
    assert host.report().retirement is None


def test_a_rollout_that_is_resumed_holds_the_host_again_until_its_own_commit() -> None:
    fleet = a_fleet(1)
    host = fleet.hosts["web-01"]
    play(fleet, HELD)
    host.drains_on = True
    commit(fleet, LEFT)

    play(fleet, HELD)
    host.drains_on = False
    host.mind_retirement()

    assert (host.phase(), host.report().retirement) == (Phase.TRIAL, None)


def test_a_boot_voids_it() -> None:
    host = a_host_that_was_left()

    host.boot()

    assert (host.report().retirement, retirement.due_in_s(host.own)) == (None, None)


@pytest.mark.parametrize(("is_last", "stays"), [(False, True), (True, False)])
def test_a_retirement_that_fails_is_tried_again_and_after_the_last_try_the_record_says_why(
    is_last: bool, stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = a_host_that_was_left()
    host.drains_on = False
    monkeypatch.setattr(host.machine, "signal", lambda *_: None)  # QUIT and TERM reach an old master that hangs.

    host.mind_retirement(is_last=is_last)

    assert host.record is not None
    assert (host.report().retirement is not None) == stays
    assert ("still runs after QUIT and TERM" in host.record.why) != stays
