"""Rollback: which hosts are visited, and how it ends."""

from dataclasses import replace
from functools import partial

from fleet.events import Result
from fleet.onhost.protocol import Ask, Outcome, Phase, State
from fleet.rollout.actions import Finish
from fleet.rollout.host_status import Progress
from fleet.rollout.own_hosts import NOT_JOURNALED, JournaledHosts
from fleet.rollout.rollback import decide_rollback, unseen_status
from fleet.task import HostOutcome
from tests.support.pretend.visits import LOST_AFTER, LOST_BEFORE, NEW, OLD, UNREACHABLE, Fleet, a_fleet, names
from tests.support.rollout.from_hosts import HELD, QUICK, a_record, rollback
from tests.support.rollout.playing import ROLLOUT, Play, a_play, play


def test_rollback_takes_every_begun_host_back_and_a_second_one_changes_nothing() -> None:
    fleet = a_fleet(4)
    play(fleet, QUICK)

    first, _ = rollback(fleet)
    before = [host.report()._replace(epoch=0) for host in fleet.hosts.values()]
    second, _ = rollback(fleet)

    assert (first.result, first.exit_code) == (Result.ROLLED_BACK, 0)
    assert [host.runs for host in fleet.hosts.values()] == [OLD] * 4
    assert second.exit_code == 0
    assert first.message.endswith(": 4 hosts.")
    assert "4 hosts, 4 of them before this command" in second.message
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
    assert game.status.hosts["web-03"].progress is Progress.LEFT_ALONE
    assert "1 host not begun" in end.message


def test_one_dead_host_never_blocks_the_others_and_needs_a_person() -> None:
    fleet = a_fleet(3)
    play(fleet, HELD)
    for ask in (Ask.LOOK, Ask.ROLLBACK):
        fleet.outcomes["web-02", ask].extend([UNREACHABLE] * 99)

    end, game = rollback(fleet)

    assert (end.result, end.exit_code) == (Result.HALTED, 4)
    assert fleet.hosts["web-01"].phase() is Phase.OLD
    assert fleet.hosts["web-03"].phase() is Phase.OLD
    assert game.fault("web-02") is not None
    assert "web-02" in end.message


def test_a_lost_rollback_is_looked_at_and_then_asked_for_again() -> None:
    fleet = a_fleet(1)
    play(fleet, HELD)
    fleet.outcomes["web-01", Ask.ROLLBACK].append(LOST_BEFORE)

    end, _ = rollback(fleet)

    assert end.exit_code == 0
    assert [ask for _, ask in fleet.calls] == [Ask.ROLLBACK, Ask.LOOK, Ask.ROLLBACK]
    assert fleet.hosts["web-01"].phase() is Phase.OLD


def test_a_rollback_whose_answer_was_lost_ends_with_0() -> None:
    fleet = a_fleet(1)
    play(fleet, HELD)
    fleet.outcomes["web-01", Ask.ROLLBACK].append(LOST_AFTER)

    end, _ = rollback(fleet)

    assert end.exit_code == 0


def test_a_host_that_another_script_is_at_work_on_is_asked_again() -> None:
    fleet = a_fleet(1)
    play(fleet, HELD)
    fleet.outcomes["web-01", Ask.ROLLBACK].append(HostOutcome("", Outcome.REFUSED, "busy", "pid 9 is at work", "Wait."))

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
    assert game.status.hosts["web-02"].progress is Progress.LEFT_ALONE


def test_a_host_that_runs_neither_release_is_foreign_and_needs_a_person() -> None:
    """A package's upgrade, or a person, has started another binary there: no rollback knows what it ran before that."""
    fleet = a_fleet(2)
    play(fleet, HELD)
    why = "the host has been given another release since"
    fleet.outcomes["web-02", Ask.ROLLBACK].append(HostOutcome("", Outcome.REFUSED, "foreign", why, "Look."))

    end, game = rollback(fleet)

    assert (end.result, end.exit_code) == (Result.HALTED, 4)
    assert "FOREIGN: web-02." in end.message
    assert game.status.hosts["web-02"].needs_person
    assert fleet.hosts["web-01"].phase() is Phase.OLD


def test_a_host_that_the_rollout_never_began_is_no_concern_of_its_rollback_even_if_foreign() -> None:
    fleet = a_fleet(2)
    play(fleet, HELD)
    fleet.hosts["web-02"].record = None
    fleet.outcomes["web-02", Ask.ROLLBACK].append(HostOutcome("", Outcome.REFUSED, "foreign", "two run here", "Look."))

    end, game = rollback(fleet)

    assert end.exit_code == 0
    assert game.status.hosts["web-02"].progress is Progress.LEFT_ALONE


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


# Without a look


def unseen(fleet: Fleet, journaled: JournaledHosts = NOT_JOURNALED, rollout: str = ROLLOUT) -> tuple[Finish, Play]:
    """A rollback that looks at no host first."""
    fleet.calls.clear()
    game = replace(a_play(fleet, QUICK), status=unseen_status(rollout, fleet.hosts, journaled))
    game.tasks = replace(game.tasks, target=None)
    return game.to_the_end(partial(decide_rollback, 50)), game


def test_without_a_look_each_host_is_asked_at_once_and_says_itself_what_it_is() -> None:
    fleet = a_fleet(4)
    play(fleet, HELD)
    fleet.hosts["web-02"].record = None
    fleet.hosts["web-02"].runs, fleet.hosts["web-02"].held = OLD, None
    fleet.hosts["web-03"].record = later = a_record("20261124-0900-late", "2026-11-24T09:00:00.000Z")

    end, game = unseen(fleet)

    assert fleet.calls == [(name, Ask.ROLLBACK) for name in names(4)]
    assert (end.result, end.exit_code) == (Result.ROLLED_BACK, 0)
    assert [fleet.hosts[name].runs for name in ("web-01", "web-02", "web-04")] == [OLD] * 3
    assert fleet.hosts["web-03"].record == later
    assert "2 hosts, 1 host not begun. Left alone, FOREIGN: web-03." in end.message
    assert [game.status.hosts[name].progress for name in ("web-02", "web-03")] == [Progress.LEFT_ALONE] * 2


def test_without_a_look_a_host_that_may_have_begun_and_does_not_answer_needs_a_person() -> None:
    fleet = a_fleet(3)
    play(fleet, HELD)
    fleet.off = {"web-02"}

    end, game = unseen(fleet)

    assert (end.result, end.exit_code) == (Result.HALTED, 4)
    assert "Not rolled back: web-02" in end.message
    assert [fleet.hosts[name].phase() for name in ("web-01", "web-03")] == [Phase.OLD] * 2
    assert game.fault("web-02") is not None


def test_without_a_look_a_host_that_the_journal_knows_as_not_begun_is_fenced_or_left_alone() -> None:
    fleet = a_fleet(3)
    play(fleet, HELD)
    for name in ("web-02", "web-03"):
        fleet.hosts[name].record = None
        fleet.hosts[name].runs, fleet.hosts[name].held = OLD, None
    epoch = fleet.hosts["web-02"].epoch
    fleet.off = {"web-03"}

    end, game = unseen(fleet, JournaledHosts(tuple(fleet.hosts), True, frozenset({"web-02", "web-03"})))

    assert end.exit_code == 0
    assert fleet.hosts["web-02"].epoch > epoch
    assert game.status.hosts["web-03"].last.reason == "not_begun"
    assert fleet.calls.count(("web-03", Ask.ROLLBACK)) == 1


def test_without_a_look_a_host_that_runs_neither_release_needs_a_person_if_its_record_names_the_rollout() -> None:
    for record_is_left, code in ((True, 4), (False, 0)):
        fleet = a_fleet(2)
        play(fleet, HELD)
        if not record_is_left:
            fleet.hosts["web-02"].record = None
        fleet.outcomes["web-02", Ask.ROLLBACK].append(HostOutcome("", Outcome.REFUSED, "foreign", "another", "Look."))

        end, _ = unseen(fleet)

        assert end.exit_code == code
        assert "FOREIGN: web-02." in end.message


def test_without_a_look_a_rollback_whose_answer_was_lost_was_not_done_before_the_command() -> None:
    fleet = a_fleet(1)
    play(fleet, HELD)
    fleet.outcomes["web-01", Ask.ROLLBACK].append(LOST_AFTER)

    end, _ = unseen(fleet)

    assert end.exit_code == 0
    assert "before this command" not in end.message


def test_the_journals_last_reports_give_the_order() -> None:
    fleet = a_fleet(3)
    play(fleet, HELD)
    report = fleet.hosts["web-01"].report()
    reports = {
        "web-02": report._replace(phase=Phase.NEW, held=False),
        "web-03": report._replace(phase=Phase.TRIAL, held=True),
    }

    unseen(fleet, JournaledHosts(tuple(fleet.hosts), True, reports=reports))

    assert fleet.asked(Ask.ROLLBACK) == ["web-03", "web-02", "web-01"]
