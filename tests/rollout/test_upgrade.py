"""The decisions of a rollout, played against pretend hosts: which host gets which request, in which order, and the end."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.events import EventType, Note, Result
from fleet.onhost.protocol import Ask, Outcome, Phase, Record, Rest
from fleet.rollout.actions import BeginVisit
from fleet.rollout.going_back import most_visits
from fleet.rollout.host_status import FaultKind, HostStatus, Progress
from fleet.rollout.policy import CommitWhen, OnFailure, Policy
from fleet.rollout.rollout_status import RolloutStatus, Stage
from fleet.rollout.upgrade import decide
from fleet.task import HostOutcome, HostTask
from tests.support.pretend.visits import (
    AT,
    LOST_AFTER,
    LOST_BEFORE,
    NEW,
    OLD,
    REFUSED,
    UNREACHABLE,
    WENT_BACK,
    Fleet,
    a_fleet,
    names,
)
from tests.support.rollout.playing import ROLLOUT, Play, a_play, play

QUICK = Policy(bake_s=0.0)


def test_a_good_release_reaches_every_host_batch_by_batch_and_is_committed_at_the_end() -> None:
    fleet = a_fleet(6)

    end, game = play(fleet, QUICK)

    assert (end.result, end.exit_code) == (Result.COMPLETED, 0)
    assert [host.phase() for host in fleet.hosts.values()] == [Phase.NEW] * 6
    opened = [event.data["hosts"] for event in game.events if event.type is EventType.BATCH_OPENED]
    assert opened == [names(6)[:1], names(6)[1:3], names(6)[3:]]
    first_commit = fleet.calls.index(next(call for call in fleet.calls if call[1] is Ask.COMMIT))
    assert all(ask is Ask.COMMIT for _, ask in fleet.calls[first_commit:])


def test_every_host_is_staged_before_any_host_is_changed() -> None:
    fleet = a_fleet(6)

    play(fleet, QUICK)

    assert [ask for _, ask in fleet.calls[:6]] == [Ask.STAGE] * 6


@pytest.mark.parametrize("outcome", [REFUSED, UNREACHABLE, LOST_BEFORE], ids=lambda outcome: outcome.reason)
def test_one_host_that_does_not_pass_preflight_means_that_no_host_is_changed(outcome: HostOutcome) -> None:
    fleet = a_fleet(6)
    fleet.outcomes["web-05", Ask.STAGE].append(outcome)

    end, _ = play(fleet, QUICK)

    assert (end.result, end.exit_code) == (Result.HALTED, 2)
    assert "web-05" in end.message
    assert {ask for _, ask in fleet.calls} == {Ask.STAGE}
    assert len(fleet.calls) == 6


def test_a_host_that_the_rollout_had_begun_and_that_is_down_needs_a_person() -> None:
    """Going on with the rollout is refused there, but that is not all that is to be said of it."""
    fleet = a_fleet(1)
    play(fleet, replace(QUICK, commit=CommitWhen.NEVER))
    host = fleet.hosts["web-01"]
    host.model = host.model.kill_new().kill_old()
    fleet.outcomes["web-01", Ask.STAGE].append(REFUSED)

    end, _ = play(fleet, QUICK)

    assert (end.result, end.exit_code) == (Result.HALTED, 4)
    assert "start" in end.message


def test_two_names_of_one_nginx_are_refused() -> None:
    fleet = a_fleet(3)
    game = a_play(fleet, QUICK)
    for host in fleet.hosts.values():
        host.name = "one and the same"

    end = game.to_the_end(partial(decide, QUICK))

    assert end.exit_code == 2
    assert "web-01 and web-02" in end.message


def test_the_epoch_is_one_above_the_highest_that_any_host_knows() -> None:
    fleet = a_fleet(3)
    fleet.hosts["web-02"].epoch = 7

    play(fleet, QUICK)

    assert {task.request.epoch for task in fleet.tasks if task.request.ask is Ask.STAGE} == {0}
    assert {task.request.epoch for task in fleet.tasks if task.request.ask is not Ask.STAGE} == {8}


def test_an_epoch_far_above_all_others_is_refused() -> None:
    """They would keep it: one above the largest number would shut fleet out of all of them."""
    fleet = a_fleet(3)
    fleet.hosts["web-02"].epoch = 10**9

    end, _ = play(fleet, QUICK)

    assert end.exit_code == 2
    assert "web-02" in end.message
    assert {task.request.ask for task in fleet.tasks} == {Ask.STAGE}


def test_upgrade_aims_at_held_and_commit_at_final() -> None:
    fleet = a_fleet(2)

    play(fleet, QUICK)

    rests = {task.request.ask: task.request.goal.rest for task in fleet.tasks if task.request.goal is not None}
    assert rests[Ask.UPGRADE] is Rest.HELD
    assert rests[Ask.COMMIT] is Rest.FINAL


def test_a_host_that_runs_the_release_already_is_left_alone() -> None:
    fleet = a_fleet(3)
    fleet.hosts["web-02"].runs = NEW

    end, game = play(fleet, QUICK)

    assert end.exit_code == 0
    assert [ask for name, ask in fleet.calls if name == "web-02"] == [Ask.STAGE]
    assert game.status.hosts["web-02"].progress is Progress.RAN_ALREADY


def test_a_failure_beyond_the_budget_rolls_back_every_begun_host_and_begins_no_other() -> None:
    fleet = a_fleet(6)
    fleet.outcomes["web-02", Ask.UPGRADE].append(WENT_BACK)

    end, _ = play(fleet, QUICK)

    assert (end.result, end.exit_code) == (Result.ROLLED_BACK, 3)
    assert [host.phase() for host in fleet.hosts.values()] == [Phase.OLD] * 6
    assert sorted(fleet.asked(Ask.UPGRADE)) == ["web-01", "web-02", "web-03"]
    assert sorted(fleet.asked(Ask.ROLLBACK)) == ["web-01", "web-02", "web-03"]


def test_hosts_committed_with_their_batch_go_back_too() -> None:
    fleet = a_fleet(6)
    fleet.outcomes["web-04", Ask.UPGRADE].append(WENT_BACK)

    end, _ = play(fleet, replace(QUICK, commit=CommitWhen.BATCH))

    assert fleet.asked(Ask.COMMIT) == ["web-01", "web-02", "web-03"]
    assert end.result is Result.ROLLED_BACK
    assert [host.runs for host in fleet.hosts.values()] == [OLD] * 6


def test_halt_leaves_the_begun_hosts_as_they_are() -> None:
    fleet = a_fleet(6)
    fleet.outcomes["web-02", Ask.UPGRADE].append(WENT_BACK)

    end, _ = play(fleet, replace(QUICK, on_failure=OnFailure.HALT))

    assert (end.result, end.exit_code) == (Result.HALTED, 3)
    assert fleet.hosts["web-01"].phase() is Phase.TRIAL
    assert fleet.asked(Ask.ROLLBACK) == []
    assert f"fleet rollback {ROLLOUT}" in end.message


def test_with_continue_no_number_of_failures_stops_the_rollout() -> None:
    fleet = a_fleet(6)
    fleet.outcomes["web-01", Ask.UPGRADE].append(WENT_BACK)
    fleet.outcomes["web-04", Ask.UPGRADE].append(WENT_BACK)

    end, _ = play(fleet, replace(QUICK, on_failure=OnFailure.CONTINUE))

    assert (end.result, end.exit_code) == (Result.COMPLETED, 3)
    assert sorted(fleet.asked(Ask.UPGRADE)) == names(6)


def test_a_host_that_fails_its_bake_within_the_budget_is_rolled_back_alone_and_the_rollout_continues() -> None:
    fleet = a_fleet(4)
    bad = replace(WENT_BACK, reason="log_bad")
    fleet.outcomes["web-01", Ask.BAKE].append(bad)

    end, game = play(fleet, replace(QUICK, max_failures=1), sizes=(2, 2))

    assert (end.result, end.exit_code) == (Result.COMPLETED, 3)
    assert [host.phase() for host in fleet.hosts.values()] == [Phase.OLD, Phase.NEW, Phase.NEW, Phase.NEW]
    assert fleet.asked(Ask.ROLLBACK) == ["web-01"]
    assert fleet.asked(Ask.BAKE).count("web-01") == 1
    assert game.fault("web-01") is FaultKind.FAILED


def test_a_host_that_went_back_by_itself_is_neither_baked_again_nor_committed() -> None:
    fleet = a_fleet(3)

    def on_visit(task: HostTask) -> None:
        host = fleet.hosts["web-01"]
        if task.request.ask is Ask.UPGRADE and task.host.name == "web-02":
            host.runs, host.held = OLD, None

    fleet.on_visit = on_visit

    end, _ = play(fleet, replace(QUICK, max_failures=1), sizes=(1, 1, 1))

    assert end.exit_code == 3
    assert fleet.asked(Ask.BAKE).count("web-01") == 2
    assert "web-01" not in fleet.asked(Ask.COMMIT)
    assert fleet.hosts["web-01"].phase() is Phase.OLD


def test_the_bake_looks_until_its_time_is_over_and_once_at_its_end() -> None:
    fleet = a_fleet(1)

    _, game = play(fleet, Policy(bake_s=60.0))

    closed = next(event.at for event in game.events if event.type is EventType.BATCH_CLOSED)
    judged = next(event.at for event in game.events if event.type is EventType.GATE_JUDGED)
    assert (judged - closed).total_seconds() >= 60.0
    assert 5 <= len(fleet.asked(Ask.BAKE)) <= 9


def test_a_bake_of_no_time_looks_once() -> None:
    fleet = a_fleet(1)

    play(fleet, QUICK)

    assert fleet.asked(Ask.BAKE) == ["web-01"]


def test_a_host_that_misses_one_look_is_asked_again_before_it_counts() -> None:
    fleet = a_fleet(2)
    fleet.outcomes["web-01", Ask.BAKE].append(UNREACHABLE)

    end, _ = play(fleet, QUICK)

    assert end.exit_code == 0


def test_a_host_that_gives_no_answer_at_the_gate_counts_as_unreachable_and_needs_a_person() -> None:
    fleet = a_fleet(2)
    for ask in (Ask.BAKE, Ask.LOOK, Ask.ROLLBACK):
        fleet.outcomes["web-01", ask].extend([UNREACHABLE] * 99)

    end, game = play(fleet, QUICK, sizes=(2,))

    assert (end.result, end.exit_code) == (Result.ROLLED_BACK, 4)
    assert game.fault("web-01") is FaultKind.UNREACHABLE
    assert fleet.hosts["web-02"].phase() is Phase.OLD


def verdicts(game: Play) -> list[object]:
    return [event.data["verdict"] for event in game.events if event.type is EventType.GATE_JUDGED]


@pytest.mark.parametrize("ask", [Ask.UPGRADE, Ask.BAKE])
@pytest.mark.parametrize("on_failure", [OnFailure.ROLLBACK, OnFailure.HALT])
def test_a_batch_of_which_no_host_passed_its_bake_is_the_last_even_within_the_budget(
    ask: Ask, on_failure: OnFailure
) -> None:
    fleet = a_fleet(4)
    fleet.outcomes["web-01", ask].append(WENT_BACK)

    end, game = play(fleet, replace(QUICK, max_failures=2, on_failure=on_failure), sizes=(1, 3))

    assert (end.result, end.exit_code) == (Result.HALTED, 3)
    assert fleet.asked(Ask.UPGRADE) == ["web-01"]
    assert "no host of batch 1 passed its bake" in end.message
    assert verdicts(game) == ["error" if ask is Ask.UPGRADE else "failed"]


def test_a_canary_without_an_answer_within_the_budget_halts_after_a_last_look() -> None:
    fleet = a_fleet(4)
    for ask in (Ask.BAKE, Ask.LOOK):
        fleet.outcomes["web-01", ask].extend([UNREACHABLE] * 99)

    end, game = play(fleet, replace(QUICK, max_failures=2), sizes=(1, 3))

    assert (end.result, end.exit_code) == (Result.HALTED, 4)
    assert fleet.asked(Ask.UPGRADE) == ["web-01"]
    assert verdicts(game) == ["error"]


def test_a_host_without_an_answer_within_the_budget_does_not_close_the_gate() -> None:
    fleet = a_fleet(4)
    fleet.outcomes["web-01", Ask.BAKE].extend([UNREACHABLE] * 99)

    end, game = play(fleet, replace(QUICK, max_failures=1), sizes=(2, 2))

    assert end.exit_code == 3
    assert verdicts(game)[0] == "passed"
    assert sorted(fleet.asked(Ask.UPGRADE)) == names(4)


def test_a_gate_with_no_host_to_watch_passes_where_all_ran_the_release_already() -> None:
    fleet = a_fleet(2)
    for host in fleet.hosts.values():
        host.runs = NEW

    end, game = play(fleet, QUICK, sizes=(1, 1))

    assert (end.result, end.exit_code) == (Result.COMPLETED, 0)
    assert verdicts(game) == ["passed", "passed"]


BUSY = HostOutcome("", Outcome.REFUSED, "busy", "pid 9 (bob@desk) is at work on this instance", "Wait for it.")
CLAIMED = HostOutcome("", Outcome.REFUSED, "claimed", "rollout r9 of bob@desk has this host", "Wait for it.")
HELD = HostOutcome("", Outcome.REFUSED, "upgrade_in_progress", "two masters run already", "Commit it.")


@pytest.mark.parametrize("outcome", [BUSY, HELD], ids=lambda outcome: outcome.reason)
@pytest.mark.parametrize("ask", [Ask.STAGE, Ask.UPGRADE])
@pytest.mark.parametrize("on_failure", OnFailure)
def test_hosts_held_by_another_rollout_end_the_run_with_5_when_nothing_was_changed(
    outcome: HostOutcome, ask: Ask, on_failure: OnFailure
) -> None:
    fleet = a_fleet(3)
    for name, host in fleet.hosts.items():
        host.record = Record("theirs", 1, "bob@desk", NEW, OLD, OLD, "2026-11-23T09:00:00.000Z")
        fleet.outcomes[name, ask].append(outcome)

    end, _ = play(fleet, replace(QUICK, on_failure=on_failure))

    assert (end.result, end.exit_code) == (Result.HALTED, 5)
    assert "bob@desk" in end.message
    assert fleet.asked(Ask.ROLLBACK) == []


def test_hosts_held_by_another_rollout_end_a_resume_with_5_whatever_was_begun_before() -> None:
    fleet = a_fleet(3)
    fleet.hosts["web-01"].record = Record("r1", 1, "alice@desk", NEW, OLD, OLD, "2026-11-23T09:00:00.000Z")
    fleet.outcomes["web-02", Ask.STAGE].append(CLAIMED)
    game = a_play(fleet, QUICK, (3,))
    begun = replace(game.status.hosts["web-01"], progress=Progress.UPGRADED)
    game.status = replace(game.status, hosts={**game.status.hosts, "web-01": begun})

    end = game.to_the_end(partial(decide, QUICK))

    assert (end.result, end.exit_code) == (Result.HALTED, 5)
    assert "another rollout holds web-02: rollout r9 of bob@desk" in end.message


def test_a_host_whose_rollback_was_lost_each_time_needs_a_person_though_it_answers_a_look() -> None:
    fleet = a_fleet(2)
    fleet.outcomes["web-02", Ask.UPGRADE].append(UNREACHABLE)
    fleet.outcomes["web-01", Ask.ROLLBACK].extend([UNREACHABLE] * 3)

    end, _ = play(fleet, QUICK, sizes=(2,))

    assert fleet.hosts["web-01"].runs == NEW
    assert (end.result, end.exit_code) == (Result.ROLLED_BACK, 4)
    assert "Needs a person: web-01. See `fleet status`." in end.message


PATIENT = replace(QUICK, lock_wait_s=60.0)


def held_for(fleet: Fleet, tries: int, host: str = "web-02") -> None:
    """The host answers so many times that another run works on it."""
    fleet.outcomes[host, Ask.STAGE].extend([CLAIMED] * tries)


def test_claimed_hosts_are_asked_again_until_the_lock_wait_is_over() -> None:
    fleet = a_fleet(3)
    held_for(fleet, 4)

    end, game = play(fleet, PATIENT)

    assert (end.result, end.exit_code) == (Result.COMPLETED, 0)
    assert [fleet.asked(Ask.STAGE).count(name) for name in names(3)] == [1, 5, 1]
    waits = [event for event in game.events if event.note is Note.LOCK_WAIT]
    assert [event.message for event in waits] == ["waiting for web-02: rollout r9 of bob@desk has this host"] * 4
    assert game.now - AT < timedelta(seconds=60)


def test_the_run_ends_with_5_when_the_lock_wait_is_over() -> None:
    fleet = a_fleet(3)
    held_for(fleet, 99)

    end, game = play(fleet, PATIENT)

    assert (end.result, end.exit_code) == (Result.HALTED, 5)
    assert timedelta(seconds=60) <= game.now - AT < timedelta(seconds=70)
    assert {ask for _, ask in fleet.calls} == {Ask.STAGE}


def test_claimed_hosts_are_not_waited_for_when_another_host_is_refused() -> None:
    fleet = a_fleet(3)
    held_for(fleet, 99)
    fleet.outcomes["web-03", Ask.STAGE].append(REFUSED)

    play(fleet, PATIENT)

    assert fleet.asked(Ask.STAGE).count("web-02") == 1


def test_two_masters_that_no_rollout_left_there_are_an_ordinary_refusal() -> None:
    fleet = a_fleet(2)
    fleet.outcomes["web-02", Ask.STAGE].append(HELD)

    end, _ = play(fleet, QUICK)

    assert end.exit_code == 2


def test_a_host_held_by_another_after_others_were_begun_is_an_ordinary_failure() -> None:
    fleet = a_fleet(3)
    fleet.outcomes["web-02", Ask.UPGRADE].append(HELD)

    end, _ = play(fleet, QUICK)

    assert (end.result, end.exit_code) == (Result.ROLLED_BACK, 3)


def test_begun_hosts_are_counted_separately() -> None:
    status = RolloutStatus("r", {"a": HostStatus("a", progress=Progress.BEGUN), "b": HostStatus("b")})

    assert status.counts["begun"] == 1
    assert status.counts["not_begun"] == 1


def test_a_rollout_in_which_every_host_failed_is_not_called_completed() -> None:
    fleet = a_fleet(3)
    for name in fleet.hosts:
        fleet.outcomes[name, Ask.UPGRADE].append(WENT_BACK)

    end, _ = play(fleet, replace(QUICK, on_failure=OnFailure.CONTINUE))

    assert (end.result, end.exit_code) == (Result.HALTED, 3)
    assert end.message.startswith("Not finished: 0 of 3 hosts run the new release.")


def test_a_halt_with_every_begun_host_old_again_names_no_rollback() -> None:
    fleet = a_fleet(3)
    fleet.outcomes["web-01", Ask.UPGRADE].append(WENT_BACK)

    end, _ = play(fleet, replace(QUICK, on_failure=OnFailure.HALT))

    assert end.exit_code == 3
    assert "fleet rollback" not in end.message
    assert "nothing to roll back" in end.message


def test_after_a_lost_reply_the_host_is_looked_at_and_the_request_is_not_repeated() -> None:
    fleet = a_fleet(2)
    fleet.outcomes["web-01", Ask.UPGRADE].append(LOST_AFTER)

    end, _ = play(fleet, QUICK)

    assert end.exit_code == 0
    assert fleet.asked(Ask.UPGRADE).count("web-01") == 1
    assert fleet.asked(Ask.LOOK) == ["web-01"]


def test_a_lost_request_is_a_failure_of_that_host_once_it_is_seen_at_rest() -> None:
    fleet = a_fleet(2)
    fleet.outcomes["web-01", Ask.UPGRADE].append(LOST_BEFORE)

    end, game = play(fleet, QUICK)

    assert (end.result, end.exit_code) == (Result.ROLLED_BACK, 3)
    assert fleet.asked(Ask.UPGRADE) == ["web-01"]
    assert game.status.hosts["web-01"].last.reason == "nothing_to_undo"


def test_a_host_lost_during_its_upgrade_and_silent_ever_since_needs_a_person() -> None:
    fleet = a_fleet(2)
    fleet.outcomes["web-01", Ask.UPGRADE].append(LOST_AFTER)
    fleet.outcomes["web-01", Ask.LOOK].extend([UNREACHABLE] * 99)
    fleet.outcomes["web-01", Ask.ROLLBACK].extend([UNREACHABLE] * 99)

    end, game = play(fleet, QUICK)

    assert end.exit_code == 4
    assert game.fault("web-01") is FaultKind.UNVERIFIED
    assert "web-01" in end.message


def test_the_fault_keeps_the_words_of_the_visit_that_was_lost() -> None:
    """A host that freezes in a step says nothing to a look either, like one whose sshd never answered."""
    fleet = a_fleet(2)
    fleet.outcomes["web-01", Ask.UPGRADE].append(LOST_AFTER)
    fleet.outcomes["web-01", Ask.LOOK].extend([UNREACHABLE] * 99)

    _, game = play(fleet, replace(QUICK, on_failure=OnFailure.HALT))

    fault = game.status.hosts["web-01"].fault
    assert fault is not None
    assert (fault.reason, fault.message) == (LOST_AFTER.reason, LOST_AFTER.message)


def test_a_changed_host_key_replaces_the_words_of_the_visit_that_was_lost() -> None:
    fleet = a_fleet(2)
    changed = replace(UNREACHABLE, reason="host_key_changed", message="THE HOST KEY HAS CHANGED")
    fleet.outcomes["web-01", Ask.UPGRADE].append(LOST_AFTER)
    fleet.outcomes["web-01", Ask.LOOK].extend([UNREACHABLE, *[changed] * 98])

    _, game = play(fleet, replace(QUICK, on_failure=OnFailure.HALT))

    fault = game.status.hosts["web-01"].fault
    assert fault is not None
    assert fault.reason == "host_key_changed"


def test_a_lost_commit_is_given_again_only_after_a_look() -> None:
    fleet = a_fleet(1)
    fleet.outcomes["web-01", Ask.COMMIT].append(LOST_BEFORE)

    end, _ = play(fleet, QUICK)

    assert end.exit_code == 0
    asks = [ask for _, ask in fleet.calls]
    first = asks.index(Ask.COMMIT)
    assert asks[first + 1] is Ask.LOOK
    assert asks[-1] is Ask.COMMIT
    assert fleet.hosts["web-01"].phase() is Phase.NEW


def test_with_commit_never_the_hosts_end_held_and_both_commands_are_named() -> None:
    fleet = a_fleet(2)

    end, _ = play(fleet, replace(QUICK, commit=CommitWhen.NEVER))

    assert end.exit_code == 0
    assert [host.phase() for host in fleet.hosts.values()] == [Phase.TRIAL] * 2
    assert f"fleet commit {ROLLOUT}" in end.message
    assert f"fleet rollback {ROLLOUT}" in end.message


def test_a_drain_that_does_not_end_leaves_the_host_held_and_the_rollout_unfinished() -> None:
    fleet = a_fleet(2)
    fleet.outcomes["web-02", Ask.COMMIT].append(
        HostOutcome("", Outcome.DONE, "drain_pending", "old workers still drain")
    )

    end, game = play(fleet, QUICK)

    assert (end.result, end.exit_code) == (Result.HALTED, 3)
    assert end.message.startswith("Not finished: ")
    assert game.status.hosts["web-02"].drain_pending
    assert fleet.asked(Ask.COMMIT) == ["web-01", "web-02"]


def test_with_commit_when_drained_the_hosts_finish_it_by_themselves() -> None:
    fleet = a_fleet(2)
    fleet.hosts["web-02"].drains_on = True

    end, game = play(fleet, replace(QUICK, commit=CommitWhen.WHEN_DRAINED, within_s=7200.0))

    assert (end.result, end.exit_code) == (Result.COMPLETED, 0)
    assert end.message.startswith("Completed: 2 of 2 hosts run the new release. Left to web-02: ")
    assert "in 2h at the latest" in end.message
    assert not game.status.hosts["web-02"].drain_pending
    assert fleet.hosts["web-02"].report().lease_left_s is None


def test_the_operator_that_took_over_is_named_and_no_further_host_is_begun() -> None:
    fleet = a_fleet(6)

    def on_visit(task: HostTask) -> None:
        if task.request.ask is Ask.BAKE:
            for host in fleet.hosts.values():
                host.epoch = 99

    fleet.on_visit = on_visit

    end, _ = play(fleet, QUICK)

    assert (end.result, end.exit_code) == (Result.HALTED, 3)
    assert "taken over: bob@desk has it" in end.message
    assert fleet.asked(Ask.UPGRADE) == ["web-01"]
    assert fleet.asked(Ask.ROLLBACK) == []


def test_after_an_interruption_no_host_is_begun_and_the_next_commands_are_named() -> None:
    fleet = a_fleet(6)
    game = a_play(fleet, QUICK)

    def on_visit(task: HostTask) -> None:
        if task.request.ask is Ask.UPGRADE and not game.status.interrupted:
            game.say(Note.INTERRUPTED)

    fleet.on_visit = on_visit

    end = game.to_the_end(partial(decide, QUICK))

    assert (end.result, end.exit_code) == (Result.INTERRUPTED, 130)
    assert fleet.asked(Ask.UPGRADE) == ["web-01"]
    assert f"fleet rollback {ROLLOUT}" in end.message
    assert f"fleet commit {ROLLOUT}" in end.message
    assert f"To continue: `fleet resume {ROLLOUT}`" in end.message


def test_a_host_whose_rollback_failed_needs_a_person_and_is_not_asked_again() -> None:
    fleet = a_fleet(2)
    fleet.outcomes["web-01", Ask.BAKE].append(replace(WENT_BACK, reason="probe_failed"))
    fleet.outcomes["web-01", Ask.ROLLBACK].append(
        HostOutcome("", Outcome.FAILED, "dismiss_unseen", "still there", "Look.")
    )

    end, _ = play(fleet, QUICK)

    assert (end.result, end.exit_code) == (Result.ROLLED_BACK, 4)
    assert fleet.asked(Ask.ROLLBACK) == ["web-01"]


BAD_OUTCOMES = st.sampled_from([WENT_BACK, REFUSED, UNREACHABLE, LOST_AFTER, LOST_BEFORE])


@given(
    count=st.integers(1, 12),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    bad=st.dictionaries(
        st.tuples(st.integers(1, 12), st.sampled_from([Ask.UPGRADE, Ask.BAKE, Ask.COMMIT, Ask.LOOK, Ask.ROLLBACK])),
        st.lists(BAD_OUTCOMES, min_size=1, max_size=12),
        max_size=6,
    ),
    policy=st.builds(
        Policy,
        bake_s=st.sampled_from([0.0, 10.0]),
        max_failures=st.integers(0, 3),
        on_failure=st.sampled_from(OnFailure),
        commit=st.sampled_from(CommitWhen),
        parallel=st.integers(1, 5),
    ),
    seed=st.randoms(use_true_random=False),
)
def test_the_budget_is_never_passed_and_every_host_has_an_outcome(
    count: int,
    sizes: list[int],
    bad: dict[tuple[int, Ask], list[HostOutcome]],
    policy: Policy,
    seed: Random,
) -> None:
    fleet = a_fleet(count)
    for (number, ask), outcomes in bad.items():
        fleet.outcomes[f"web-{number:02}", ask].extend(outcomes)
    game = a_play(fleet, policy, sizes)
    game.choose = seed.randrange

    def watch(status: RolloutStatus, moves: tuple[object, ...]) -> None:
        begun = [move for move in moves if isinstance(move, BeginVisit)]
        is_going_back = status.stage is Stage.ROLLING_BACK
        assert status.busy + len(begun) <= (most_visits(policy.parallel) if is_going_back else policy.parallel)
        assert len({move.host for move in begun}) == len(begun)
        if policy.on_failure is not OnFailure.CONTINUE and status.faults > policy.max_failures:
            assert all(move.ask is not Ask.UPGRADE for move in begun)
        for move in begun:
            fault = status.hosts[move.host].fault
            if fault is not None and fault.kind is FaultKind.FAILED:
                assert move.ask in (Ask.ROLLBACK, Ask.LOOK)

    game.watch = watch
    end = game.to_the_end(partial(decide, policy))

    unsaid = [host for host in game.status.all if host.begun and host.last.outcome is None]
    assert not unsaid
    assert sum(value for key, value in game.status.counts.items() if key != "hosts") == count
    assert end.exit_code in (0, 3, 4)
    if end.exit_code == 0:
        assert all(host.runs == NEW for host in fleet.hosts.values())
    if end.result is Result.ROLLED_BACK and end.exit_code == 3:
        assert all(host.runs == OLD for host in fleet.hosts.values())
