"""Check, status, commit and rollback: which rollout is meant, who is asked, and how it ends."""

from dataclasses import replace
from functools import partial

from fleet.events import Result
from fleet.onhost.protocol import Ask, Outcome, Phase, Record, State
from fleet.rollout.actions import Finish
from fleet.rollout.host_status import Course, Fault
from fleet.rollout.policy import CommitWhen, Policy
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.unbatched import committing, decide_ask, decide_commit, decide_rollback, newest, undoing
from fleet.task import HostOutcome
from tests.support.pretend.visits import LOST_AFTER, LOST_BEFORE, NEW, OLD, REFUSED, UNREACHABLE, Fleet, a_fleet, names
from tests.support.rollout.playing import Play, a_play, play

QUICK = Policy(bake_s=0.0)
HELD = replace(QUICK, commit=CommitWhen.NEVER)
PARALLEL = 50


def look(fleet: Fleet) -> RolloutStatus:
    """What the hosts say now."""
    game = a_play(fleet, QUICK, sizes=(99,))
    game.to_the_end(partial(decide_ask, Ask.LOOK, PARALLEL))
    fleet.calls.clear()
    fleet.tasks.clear()
    return game.status


def rollback(fleet: Fleet, rollout: str | None = None) -> tuple[Finish, Play]:
    looked = look(fleet)
    chosen = rollout or newest(looked)
    assert chosen is not None
    game = replace(a_play(fleet, QUICK), status=undoing(looked, chosen))
    game.requests = replace(game.requests, target=None)
    return game.to_the_end(partial(decide_rollback, PARALLEL)), game


def commit(fleet: Fleet) -> tuple[Finish, Play]:
    looked = look(fleet)
    chosen = newest(looked)
    assert chosen is not None
    game = replace(a_play(fleet, QUICK), status=committing(looked, chosen))
    game.requests = replace(game.requests, target=None)
    return game.to_the_end(partial(decide_commit, QUICK)), game


def a_record(rollout: str, at: str, state: State = State.BEGUN) -> Record:
    return Record(rollout, 3, "bob@desk", NEW, OLD, OLD, at, state)


def test_a_look_at_silent_hosts_ends_with_4() -> None:
    fleet = a_fleet(3)
    fleet.trouble["web-02", Ask.LOOK].append(UNREACHABLE)
    game = a_play(fleet, QUICK)

    end = game.to_the_end(partial(decide_ask, Ask.LOOK, PARALLEL))

    assert end.exit_code == 4
    assert "web-02" in end.message


def test_a_check_tells_all_hosts_that_refuse() -> None:
    fleet = a_fleet(3)
    fleet.trouble["web-01", Ask.STAGE].append(REFUSED)
    fleet.trouble["web-03", Ask.STAGE].append(REFUSED)
    game = a_play(fleet, QUICK)

    end = game.to_the_end(partial(decide_ask, Ask.STAGE, PARALLEL))

    assert end.exit_code == 2
    assert "web-01, web-03" in end.message


def test_rollback_takes_every_begun_host_back_and_a_second_one_changes_nothing() -> None:
    fleet = a_fleet(4)
    play(fleet, QUICK)

    first, _ = rollback(fleet)
    before = [host.report()._replace(epoch=0) for host in fleet.hosts.values()]
    second, _ = rollback(fleet)

    assert (first.result, first.exit_code) == (Result.ROLLED_BACK, 0)
    assert [host.runs for host in fleet.hosts.values()] == [OLD] * 4
    assert second.exit_code == 0
    assert "4 hosts back" in first.message
    assert "0 hosts back, 4 were back already" in second.message
    assert [host.report()._replace(epoch=0) for host in fleet.hosts.values()] == before


def test_rollback_asks_each_host_once_and_takes_over() -> None:
    fleet = a_fleet(3)
    play(fleet, HELD)

    rollback(fleet)

    assert sorted(fleet.calls) == [(name, Ask.ROLLBACK) for name in names(3)]
    assert all(task.request.take_over for task in fleet.tasks)


def test_a_host_that_never_began_is_fenced_and_otherwise_left_alone() -> None:
    fleet = a_fleet(3)
    play(fleet, HELD)
    fleet.hosts["web-03"].record = None
    fleet.hosts["web-03"].runs, fleet.hosts["web-03"].held = OLD, None
    epoch = fleet.hosts["web-03"].epoch

    end, game = rollback(fleet)

    assert end.exit_code == 0
    assert fleet.hosts["web-03"].epoch > epoch
    assert game.status.hosts["web-03"].course is Course.LEFT_ALONE
    assert "1 had not begun" in end.message


def test_one_dead_host_never_blocks_the_others_and_needs_a_person() -> None:
    fleet = a_fleet(3)
    play(fleet, HELD)
    for ask in (Ask.LOOK, Ask.ROLLBACK):
        fleet.trouble["web-02", ask].extend([UNREACHABLE] * 99)

    end, game = rollback(fleet)

    assert (end.result, end.exit_code) == (Result.HALTED, 4)
    assert fleet.hosts["web-01"].phase() is Phase.OLD
    assert fleet.hosts["web-03"].phase() is Phase.OLD
    assert game.status.hosts["web-02"].fault is not None
    assert "web-02" in end.message


def test_a_lost_rollback_is_looked_at_and_then_asked_for_again() -> None:
    fleet = a_fleet(1)
    play(fleet, HELD)
    fleet.trouble["web-01", Ask.ROLLBACK].append(LOST_BEFORE)

    end, _ = rollback(fleet)

    assert end.exit_code == 0
    assert [ask for _, ask in fleet.calls] == [Ask.ROLLBACK, Ask.LOOK, Ask.ROLLBACK]
    assert fleet.hosts["web-01"].phase() is Phase.OLD


def test_a_rollback_that_was_done_and_whose_answer_was_lost_ends_well() -> None:
    fleet = a_fleet(1)
    play(fleet, HELD)
    fleet.trouble["web-01", Ask.ROLLBACK].append(LOST_AFTER)

    end, _ = rollback(fleet)

    assert end.exit_code == 0


def test_a_host_that_another_script_is_at_work_on_is_asked_again() -> None:
    fleet = a_fleet(1)
    play(fleet, HELD)
    fleet.trouble["web-01", Ask.ROLLBACK].append(HostOutcome("", Outcome.REFUSED, "busy", "pid 9 is at work", "Wait."))

    end, _ = rollback(fleet)

    assert end.exit_code == 0
    assert fleet.hosts["web-01"].phase() is Phase.OLD


def test_a_host_that_was_given_a_later_release_is_foreign_and_not_even_fenced() -> None:
    fleet = a_fleet(3)
    play(fleet, HELD)
    later = a_record("20261124-0900-late", "2026-11-24T09:00:00.000Z")
    fleet.hosts["web-02"].record = later
    epoch = fleet.hosts["web-02"].epoch

    end, game = rollback(fleet, "20261123-1000-test")

    assert end.exit_code == 0
    assert "FOREIGN: web-02" in end.message
    assert fleet.hosts["web-02"].epoch == epoch
    assert fleet.hosts["web-02"].record == later
    assert game.status.hosts["web-02"].course is Course.LEFT_ALONE


def test_a_host_whose_later_upgrade_was_undone_goes_back_to_before_the_one_in_force() -> None:
    fleet = a_fleet(2)
    play(fleet, QUICK)
    undone = a_record("20261124-0900-late", "2026-11-24T09:00:00.000Z", State.ROLLED_BACK)
    host = fleet.hosts["web-01"]
    host.record, host.previous = undone._replace(target="c" * 64, before_process=NEW), host.record

    end, _ = rollback(fleet, "20261123-1000-test")

    assert ("web-01", Ask.ROLLBACK) in fleet.calls
    assert end.exit_code == 0
    assert (host.runs, fleet.hosts["web-02"].runs) == (OLD, OLD)


def test_a_host_that_ran_the_release_before_is_left_alone() -> None:
    """It runs the rollout's release, but another rollout, undone since, is all that its record tells of."""
    fleet = a_fleet(2)
    play(fleet, QUICK)
    undone = a_record("20261124-0900-late", "2026-11-24T09:00:00.000Z", State.ROLLED_BACK)
    fleet.hosts["web-01"].record = undone._replace(target="c" * 64, before_process=NEW)

    end, _ = rollback(fleet, "20261123-1000-test")

    assert end.exit_code == 0
    assert fleet.hosts["web-01"].runs == NEW


def test_the_newest_rollout_is_the_one_whose_record_is_the_latest() -> None:
    fleet = a_fleet(3)
    fleet.hosts["web-01"].record = a_record("b", "2026-11-23T10:00:00.000Z")
    fleet.hosts["web-02"].record = a_record("a", "2026-11-24T10:00:00.000Z")

    assert newest(look(fleet)) == "a"


def test_commit_retires_what_is_held_and_a_second_one_has_nothing_to_do() -> None:
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
    assert game.status.hosts["web-02"].fault is Fault.FAILED
    assert fleet.hosts["web-02"].phase() is Phase.OLD


def test_commit_carries_the_epoch_of_the_rollout_so_that_a_rollback_elsewhere_keeps_it_out() -> None:
    fleet = a_fleet(1)
    play(fleet, HELD)
    fleet.hosts["web-01"].epoch = 9

    end, _ = commit(fleet)

    assert end.exit_code == 3
    assert "taken over" in end.message
    assert fleet.hosts["web-01"].phase() is Phase.TRIAL
