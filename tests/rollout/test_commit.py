"""Commit: which hosts are visited, and how it ends."""

from fleet.events import Result
from fleet.onhost.protocol import Ask, Phase
from fleet.rollout.host_status import FaultKind
from tests.support.pretend.visits import OLD, a_fleet
from tests.support.rollout.from_hosts import HELD, commit
from tests.support.rollout.playing import play


def test_commit_retires_the_held_hosts_and_a_second_one_has_nothing_to_do() -> None:
    fleet = a_fleet(3)
    play(fleet, HELD)

    first, _ = commit(fleet)
    second, _ = commit(fleet)

    assert (first.result, first.exit_code) == (Result.COMPLETED, 0)
    assert [host.phase() for host in fleet.hosts.values()] == [Phase.NEW] * 3
    assert second.exit_code == 0
    assert fleet.calls == []


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
