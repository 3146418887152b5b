"""Which way a rollout goes on after its earlier runs, and what of them need not be watched again."""

from dataclasses import replace
from functools import partial

import pytest

from fleet.events import Note, Result
from fleet.onhost.protocol import Ask
from fleet.rollout.host_status import HostStatus, Progress
from fleet.rollout.policy import OnFailure, Policy
from fleet.rollout.resume import ResumeAs, passed_gate, resume_as, resumed_status
from fleet.rollout.rollout_status import RolloutStatus, Stage
from fleet.rollout.upgrade import decide
from fleet.task import HostTask
from tests.support.pretend.visits import LOST_AFTER, UNREACHABLE, WENT_BACK, Fleet, a_fleet, names
from tests.support.rollout.playing import Play, a_play

QUICK = Policy(bake_s=0.0)
SIZES = (1, 1, 2)


def interrupted(fleet: Fleet, ask: Ask, host: str, policy: Policy = QUICK) -> Play:
    """A rollout whose operator turned back during this visit."""
    game = a_play(fleet, policy, SIZES)

    def on_visit(task: HostTask) -> None:
        if (task.request.ask, task.host.name) == (ask, host) and not game.status.interrupted:
            game.say(Note.INTERRUPTED)

    fleet.on_visit = on_visit
    game.to_the_end(partial(decide, policy))
    assert game.status.result is Result.INTERRUPTED
    return game


def test_an_interrupted_upgrade_continues_as_an_upgrade() -> None:
    game = interrupted(a_fleet(4), Ask.UPGRADE, "web-02")

    assert resume_as([("upgrade", game.status)]) is ResumeAs.UPGRADE
    assert resume_as([("resume", game.status)]) is ResumeAs.UPGRADE


@pytest.mark.parametrize("broke_off", [False, True], ids=["turned back", "killed"])
def test_an_interrupted_rollback_continues_as_a_rollback(broke_off: bool) -> None:
    fleet = a_fleet(4)
    fleet.outcomes["web-02", Ask.UPGRADE].append(WENT_BACK)
    status = interrupted(fleet, Ask.ROLLBACK, "web-01").status

    if broke_off:
        status = replace(status, stage=Stage.ROLLING_BACK, result=None, exit_code=None)

    assert resume_as([("upgrade", status)]) is ResumeAs.ROLLBACK


def test_after_a_finished_rollback_there_is_nothing_to_resume() -> None:
    fleet = a_fleet(4)
    fleet.outcomes["web-02", Ask.UPGRADE].append(WENT_BACK)
    game = a_play(fleet, QUICK, SIZES)
    game.to_the_end(partial(decide, QUICK))

    assert game.status.result is Result.ROLLED_BACK
    assert resume_as([("upgrade", game.status)]) is ResumeAs.NOTHING


def test_a_rollback_with_a_host_that_is_not_known_to_be_back_continues() -> None:
    fleet = a_fleet(4)
    fleet.outcomes["web-02", Ask.UPGRADE].append(LOST_AFTER)
    for ask in (Ask.LOOK, Ask.ROLLBACK):
        fleet.outcomes["web-02", ask].extend([UNREACHABLE] * 99)
    game = a_play(fleet, QUICK, SIZES)
    game.to_the_end(partial(decide, QUICK))

    assert game.status.result is Result.ROLLED_BACK
    assert resume_as([("upgrade", game.status)]) is ResumeAs.ROLLBACK


@pytest.mark.parametrize(
    ("command", "result", "code", "way"),
    [
        ("commit", Result.INTERRUPTED, 130, ResumeAs.COMMIT),
        ("commit", None, None, ResumeAs.COMMIT),
        ("commit", Result.COMPLETED, 0, ResumeAs.UPGRADE),
        ("rollback", Result.INTERRUPTED, 130, ResumeAs.ROLLBACK),
        ("rollback", Result.HALTED, 4, ResumeAs.ROLLBACK),
        ("rollback", None, None, ResumeAs.ROLLBACK),
        ("rollback", Result.ROLLED_BACK, 0, ResumeAs.NOTHING),
        ("upgrade", Result.COMPLETED, 0, ResumeAs.UPGRADE),
        ("upgrade", None, None, ResumeAs.UPGRADE),
    ],
)
def test_the_last_command_and_its_result_decide_how_to_resume(
    command: str, result: Result | None, code: int | None, way: ResumeAs
) -> None:
    assert resume_as([(command, RolloutStatus("r1", result=result, exit_code=code))]) is way


@pytest.mark.parametrize(
    ("command", "result", "way"),
    [("rollback", Result.INTERRUPTED, ResumeAs.ROLLBACK), ("upgrade", Result.COMPLETED, ResumeAs.UPGRADE)],
)
def test_after_a_failed_commit_the_run_before_it_decides(command: str, result: Result, way: ResumeAs) -> None:
    before = (command, RolloutStatus("r1", result=result))
    failed = ("commit", RolloutStatus("r1", result=Result.HALTED, exit_code=3))

    assert resume_as([before, failed, failed]) is way


def test_hosts_have_passed_when_their_batch_has_passed_its_gate() -> None:
    game = interrupted(a_fleet(4), Ask.UPGRADE, "web-03")

    assert game.status.batch == 3
    assert passed_gate([game.status]) == {"web-01", "web-02"}


def test_a_faulty_host_has_not_passed_and_earlier_runs_count() -> None:
    fleet = a_fleet(4)
    fleet.outcomes["web-02", Ask.UPGRADE].append(WENT_BACK)
    lenient = replace(QUICK, on_failure=OnFailure.CONTINUE)
    game = interrupted(fleet, Ask.UPGRADE, "web-03", lenient)
    before = resumed_status("r1", game.status.batches, frozenset({"web-02"}))

    assert passed_gate([game.status]) == {"web-01"}
    assert passed_gate([before, game.status]) == {"web-01", "web-02"}
    assert passed_gate([]) == frozenset()


def test_a_resume_keeps_of_each_host_only_whether_it_passed_its_gate() -> None:
    start = resumed_status("r1", (("web-01",), ("web-02", "web-03")), frozenset({"web-01"}))

    assert start.batches == (("web-01",), ("web-02", "web-03"))
    assert start.hosts["web-01"] == HostStatus("web-01", 1, passed_gate=True)
    assert [host.progress for host in start.all] == [Progress.WAITING] * 3
    assert [host.batch for host in start.all] == [1, 2, 2]


def test_a_held_batch_that_had_passed_its_gate_is_not_watched_again() -> None:
    fleet = a_fleet(4)
    policy = replace(QUICK, bake_s=60.0)
    first = interrupted(fleet, Ask.UPGRADE, "web-03", policy)
    fleet.on_visit = lambda task: None
    well = passed_gate([first.status])
    game = a_play(fleet, policy, SIZES)
    game.status = resumed_status(game.status.rollout, game.status.batches, well)
    game.tasks = replace(game.tasks, reopen=True)
    game.now = first.now

    end = game.to_the_end(partial(decide, policy))

    assert end.exit_code == 0
    assert (game.now - first.now).total_seconds() < 120.0
    assert [host.fault for host in game.status.all] == [None] * 4
    assert sorted(set(fleet.asked(Ask.COMMIT))) == names(4)


def test_a_host_that_was_refused_before_is_asked_again() -> None:
    start = resumed_status("r1", (("web-01",),), frozenset())

    assert start.hosts["web-01"].fault is None
