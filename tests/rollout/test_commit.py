"""Commit: which hosts are visited, and how it ends."""

from fleet.events import Result
from fleet.onhost.protocol import Ask, Phase
from fleet.rollout.host_status import FaultKind
from tests.support.pretend.visits import OLD, Fleet, a_fleet
from tests.support.rollout.from_hosts import HELD, WHEN_DRAINED, commit
from tests.support.rollout.playing import ROLLOUT, play


def test_commit_retires_the_held_hosts_and_a_second_one_has_nothing_to_do() -> None:
    fleet = a_fleet(3)
    play(fleet, HELD)

    first, _ = commit(fleet)
    second, _ = commit(fleet)

    assert (first.result, first.exit_code) == (Result.COMPLETED, 0)
    assert [host.phase() for host in fleet.hosts.values()] == [Phase.NEW] * 3
    assert second.exit_code == 0
    assert fleet.calls == []


def drains_on(fleet: Fleet, name: str) -> None:
    """Downloads keep this host's old workers."""
    fleet.hosts[name].drains_on = True


def test_a_commit_may_leave_the_retirement_to_the_hosts_and_ends_well() -> None:
    fleet = a_fleet(3)
    play(fleet, HELD)
    drains_on(fleet, "web-02")

    end, game = commit(fleet, WHEN_DRAINED)

    assert (end.result, end.exit_code) == (Result.COMPLETED, 0)
    assert end.message.startswith("Committed: 2 of 3 hosts")
    assert "Left to web-02: once the old connections have ended (0 connections on 1 old worker now)" in end.message
    assert "in 24h at the latest" in end.message
    assert f"fleet rollback {ROLLOUT}" in end.message
    assert game.status.hosts["web-02"].retires_itself
    assert [host.phase() for host in fleet.hosts.values()] == [Phase.NEW, Phase.TRIAL, Phase.NEW]


def test_a_host_that_has_retired_its_old_master_by_itself_counts_as_committed() -> None:
    fleet = a_fleet(1)
    play(fleet, HELD)
    drains_on(fleet, "web-01")
    commit(fleet, WHEN_DRAINED)

    fleet.hosts["web-01"].drains_on = False
    fleet.hosts["web-01"].mind_retirement()
    end, _ = commit(fleet)

    assert (end.exit_code, fleet.calls) == (0, [])
    assert fleet.hosts["web-01"].phase() is Phase.NEW


def test_a_commit_that_waits_finishes_what_was_left_to_the_host() -> None:
    fleet = a_fleet(1)
    play(fleet, HELD)
    drains_on(fleet, "web-01")
    commit(fleet, WHEN_DRAINED)
    fleet.hosts["web-01"].drains_on = False

    end, _ = commit(fleet)

    assert end.exit_code == 0
    assert fleet.asked(Ask.COMMIT) == ["web-01"]
    assert fleet.hosts["web-01"].report().retirement is None


def test_commit_does_not_move_a_host_forward_that_went_back() -> None:
    fleet = a_fleet(3)
    play(fleet, HELD)
    fleet.hosts["web-02"].runs, fleet.hosts["web-02"].held = OLD, None

    end, game = commit(fleet)

    assert end.exit_code == 3
    assert ("web-02", Ask.COMMIT) not in fleet.calls
    assert game.fault("web-02") is FaultKind.FAILED
    assert fleet.hosts["web-02"].phase() is Phase.OLD


def test_commit_carries_the_epoch_of_the_rollout_so_that_a_rollback_elsewhere_keeps_it_out() -> None:
    fleet = a_fleet(1)
    play(fleet, HELD)
    fleet.hosts["web-01"].epoch = 9

    end, _ = commit(fleet)

    assert end.exit_code == 3
    assert "taken over" in end.message
    assert fleet.hosts["web-01"].phase() is Phase.TRIAL
