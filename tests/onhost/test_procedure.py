"""The table of the procedure, and walks over the model nginx with everything going wrong in between."""

from collections.abc import Callable
from itertools import product, starmap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.onhost.observation import Observation, Worker
from fleet.onhost.procedure import (
    GOING_BACK,
    NO_RETREAT,
    RANK,
    Move,
    MoveKind,
    Retreat,
    Situation,
    Unfinished,
    Way,
    classify,
    elder_release,
    has_lost_its_old,
    is_behind,
    is_unconfirmed,
    is_verified,
    next_step,
    retreat,
    situation,
    state_reached,
    way,
)
from fleet.onhost.protocol import MAY_DO, Ask, Goal, Phase, Record, Rest, State, Step
from tests.support.onhost.model import NEW_SHA, OLD_SHA, Model, refuses, take

EVERYTHING = tuple(Step)
A_RECORD = Record("r1", 1, "ada", NEW_SHA, OLD_SHA, OLD_SHA, "2026-11-23T10:00:00.000Z")
YES_NO = (False, True)
SITUATIONS = tuple(starmap(Situation, product(Phase, Way, YES_NO, YES_NO, YES_NO, YES_NO)))
UNFINISHED = tuple(starmap(Unfinished, product(Phase, *[YES_NO] * 6)))


def a_situation(
    phase: Phase,
    direction: Way = Way.FORWARD,
    path_right: bool = True,
    litter: bool = False,
    verified: bool = True,
    drain_pending: bool = False,
) -> Situation:
    return Situation(phase, direction, path_right, litter, verified, drain_pending)


@pytest.mark.parametrize("ask", list(Ask))
def test_every_combination_has_an_answer(ask: Ask) -> None:
    """Goal x situation x allowed: the table is total, and a visit never does what it may not."""
    for rest, now in product(Rest, SITUATIONS):
        move = next_step(rest, now, MAY_DO[ask])

        assert isinstance(move, Move)
        assert (move.kind is MoveKind.ACT) <= (move.step in MAY_DO[ask])
        assert (move.kind is MoveKind.ARRIVED) <= (now.phase in (Phase.NEW, Phase.TRIAL))
        assert (move.kind is MoveKind.PENDING) <= (now.phase in (Phase.TRIAL, Phase.RETIRING) and now.drain_pending)


@given(st.sets(st.sampled_from(list(Step))), st.sampled_from(SITUATIONS))
def test_any_set_of_rights_has_an_answer(allowed: set[Step], now: Situation) -> None:
    for rest in Rest:
        move = next_step(rest, now, allowed)

        assert move.kind is not MoveKind.ACT or move.step in allowed


def test_nothing_goes_forward_without_verify() -> None:
    """No step takes workers from the old master, and no visit ends with the target alone, before it was verified."""
    for rest, now in product(Rest, SITUATIONS):
        move = next_step(rest, now, EVERYTHING)
        if now.verified or now.way is Way.BACK:
            continue

        assert move.step is not Step.DRAIN
        assert not (now.phase is Phase.NEW and move.kind is MoveKind.ARRIVED)
        assert not (now.phase is Phase.NEW and move.step is Step.SWEEP)


def test_a_step_that_this_visit_has_taken_is_never_repeated() -> None:
    """If this visit has taken the next step since the newest master came, something outside has undone it."""
    for rest, now in product(Rest, SITUATIONS):
        move = next_step(rest, now, EVERYTHING)
        if move.step is None:
            continue
        others = tuple(step for step in Step if step is not move.step)

        assert next_step(rest, now._replace(taken=(move.step,)), EVERYTHING) == Move(MoveKind.UNDONE, move.step)
        assert next_step(rest, now._replace(taken=others), EVERYTHING) == move


@pytest.mark.parametrize(
    ("phase", "direction", "rest", "verified", "step"),
    [
        (Phase.OLD, Way.FORWARD, Rest.HELD, False, Step.SWAP),
        (Phase.SWAPPED, Way.FORWARD, Rest.HELD, False, Step.LAUNCH),
        (Phase.OVERLAP, Way.FORWARD, Rest.HELD, False, Step.VERIFY),
        (Phase.OVERLAP, Way.FORWARD, Rest.HELD, True, Step.DRAIN),
        (Phase.TRIAL, Way.FORWARD, Rest.FINAL, False, Step.RETIRE),
        (Phase.NEW, Way.FORWARD, Rest.FINAL, False, Step.VERIFY),
        (Phase.TRIAL, Way.BACK, Rest.FINAL, False, Step.REVIVE),
        (Phase.OVERLAP, Way.BACK, Rest.FINAL, False, Step.DISMISS),
        (Phase.DISMISSING, Way.BACK, Rest.FINAL, False, Step.DISMISS),
        (Phase.RETIRING, Way.BACK, Rest.FINAL, False, Step.RETIRE),
        (Phase.STRANDED, Way.FORWARD, Rest.HELD, False, Step.REVIVE),
        (Phase.STRANDED, Way.BACK, Rest.FINAL, False, Step.REVIVE),
    ],
)
def test_the_table_gives_the_step_that_docs_procedure_names(
    phase: Phase, direction: Way, rest: Rest, verified: bool, step: Step
) -> None:
    move = next_step(rest, a_situation(phase, direction, verified=verified), EVERYTHING)

    assert move == Move(MoveKind.ACT, step)


def test_a_held_goal_is_reached_in_trial_and_a_final_one_in_new() -> None:
    assert next_step(Rest.HELD, a_situation(Phase.TRIAL), EVERYTHING).kind is MoveKind.ARRIVED
    assert next_step(Rest.FINAL, a_situation(Phase.NEW), EVERYTHING).kind is MoveKind.ARRIVED


@pytest.mark.parametrize("phase", [Phase.TRIAL, Phase.RETIRING])
def test_a_final_goal_rests_where_old_connections_outlast_the_drain_timeout(phase: Phase) -> None:
    assert next_step(Rest.FINAL, a_situation(phase, drain_pending=True), EVERYTHING).kind is MoveKind.PENDING


def test_nothing_is_done_where_a_person_must_look() -> None:
    for rest, now in product(Rest, SITUATIONS):
        if now.phase in (Phase.DOWN, Phase.FOREIGN):
            assert next_step(rest, now, EVERYTHING).kind is MoveKind.BLOCKED


def test_the_wrong_file_at_the_path_is_put_right_before_the_rest_is_swept() -> None:
    now = a_situation(Phase.NEW, path_right=False, litter=True)

    assert next_step(Rest.FINAL, now, EVERYTHING).step is Step.RESTORE
    assert next_step(Rest.FINAL, now, MAY_DO[Ask.COMMIT]).step is Step.SWEEP
    assert next_step(Rest.FINAL, now, ()).kind is MoveKind.ARRIVED


# Where a visit that ended badly leaves the host


def test_every_bad_end_has_a_retreat() -> None:
    for left in UNFINISHED:
        assert isinstance(retreat(left), Retreat)


def test_no_host_with_a_master_is_left_between_two_phases_of_rest() -> None:
    """The exceptions: masters that are not ours, and a WINCH that would act as soon as the new master ends."""
    for left in UNFINISHED:
        is_ours = left.has_master and left.phase not in (Phase.DOWN, Phase.FOREIGN)
        if is_ours and not left.winch_pending and left.phase not in (*NO_RETREAT, Phase.NEW):
            assert retreat(left) is Retreat.GO_BACK


def test_a_host_at_rest_is_left_alone_unless_its_file_was_replaced_after_the_swap() -> None:
    for left in UNFINISHED:
        if not left.has_master or left.phase not in NO_RETREAT:
            continue
        is_astray = left.phase is Phase.OLD and left.has_swapped and not left.file_before and not left.winch_pending

        assert retreat(left) is (Retreat.GO_BACK if is_astray else Retreat.STAY)


def test_a_host_that_runs_the_target_alone_stays_so_unless_the_next_start_would_run_another_file() -> None:
    for left in UNFINISHED:
        if left.has_master and left.phase is Phase.NEW and not left.winch_pending:
            assert retreat(left) is (Retreat.STAY if left.path_right else Retreat.GO_BACK)


def test_without_a_master_only_the_file_of_an_unverified_release_is_restored() -> None:
    for left in UNFINISHED:
        if not left.has_master:
            goes = left.has_swapped and not left.has_verified
            assert retreat(left) is (Retreat.RESTORE_FILE if goes else Retreat.STAY)


def test_a_retreat_ends_in_the_elder_release_alone_from_every_phase_in_between() -> None:
    swapped = Model(path=NEW_SHA)
    between = [swapped, swapped.usr2_old(), swapped.usr2_old().winch_old().hup_old(), swapped.winch_old()]
    for model in [*between, swapped.usr2_old().winch_old().winch_new()]:
        assert classify(model.observe(), NEW_SHA) not in NO_RETREAT
        walk = Walk(model, elder_release(model.observe(), A_RECORD), Rest.FINAL, GOING_BACK)

        assert walk.to_the_end().kind is MoveKind.ARRIVED
        assert classify(walk.model.observe(), OLD_SHA) is Phase.NEW
        assert walk.model.path == OLD_SHA


@pytest.mark.parametrize("ask", list(Ask))
def test_the_record_says_what_was_asked_and_how_far(ask: Ask) -> None:
    """A rollback or a lease takes back; a commit, or an upgrade straight to the end, commits; a held upgrade does neither."""
    always = {Ask.ROLLBACK: State.ROLLED_BACK, Ask.LEASE: State.ROLLED_BACK, Ask.COMMIT: State.COMMITTED}

    assert state_reached(ask, None) is always.get(ask)
    assert state_reached(ask, Goal(NEW_SHA, Rest.HELD)) is always.get(ask)
    assert state_reached(ask, Goal(NEW_SHA, Rest.FINAL)) is always.get(ask, State.COMMITTED)


ALONE = Model(path=NEW_SHA, old=NEW_SHA, ids=(5, 0)).observe()
"""The release of the record, under a master with pid 5 and start 5."""
SEEN = (ALONE, Model(ids=(5, 0)).observe(), Model(path=NEW_SHA).usr2_old().observe(), Model(old=None).observe())
RECORDS = (None, *(A_RECORD._replace(state=state) for state in State))
VERIFIED = (None, (4, 4), (5, 4), (5, 5))


def test_only_the_release_of_an_open_record_alone_under_a_master_that_no_visit_has_verified_is_unconfirmed() -> None:
    for seen, record, verified in product(SEEN, RECORDS, VERIFIED):
        is_open = record is not None and record.state is State.BEGUN
        expected = seen is ALONE and is_open and verified != (5, 5)

        assert is_unconfirmed(seen, record, verified) is expected


def test_a_master_counts_as_verified_by_this_visit_or_alone_by_an_earlier_one_or_on_the_way_back() -> None:
    for seen, record, target, now, earlier in product(SEEN, RECORDS[1:], (OLD_SHA, NEW_SHA), VERIFIED, VERIFIED):
        assert record is not None
        newest = (seen.masters[-1].pid, seen.masters[-1].start) if seen.masters else None
        may_be_old = len(seen.masters) == 1 and (target == OLD_SHA or not is_unconfirmed(seen, record, earlier))
        expected = newest is not None and (now == newest or may_be_old)

        assert is_verified(seen, record, target, now, earlier) is expected


def test_a_host_has_lost_its_old_master_where_an_open_rollout_finds_one_alone() -> None:
    lost = [(seen, record) for seen, record in product(SEEN, RECORDS[1:]) if record and has_lost_its_old(seen, record)]

    assert lost == [(seen, A_RECORD) for seen in SEEN[:2]]


# What the host looks like


def test_two_masters_of_strange_releases_are_foreign() -> None:
    seen = Model(path=NEW_SHA).usr2_old().observe()

    assert classify(seen, "c" * 64) is Phase.FOREIGN
    assert classify(seen, NEW_SHA) is Phase.OVERLAP


def test_the_parent_running_the_target_means_the_way_is_back() -> None:
    seen = Model(path=NEW_SHA).usr2_old().winch_old().observe()

    assert (classify(seen, OLD_SHA), way(seen, OLD_SHA)) == (Phase.TRIAL, Way.BACK)
    assert (classify(seen, NEW_SHA), way(seen, NEW_SHA)) == (Phase.TRIAL, Way.FORWARD)


def test_masters_that_are_not_parent_and_child_are_foreign() -> None:
    seen = Model(path=NEW_SHA).usr2_old().observe()
    strangers = seen._replace(masters=(seen.masters[0], seen.masters[1]._replace(ppid=77)))

    assert classify(strangers, NEW_SHA) is Phase.FOREIGN


def test_draining_workers_do_not_accept() -> None:
    seen = Model(path=NEW_SHA).usr2_old().winch_old().observe()
    draining = seen.masters[0]._replace(workers=(Worker(5, 5, True, True),))

    assert classify(seen._replace(masters=(draining, seen.masters[1])), NEW_SHA) is Phase.TRIAL


def test_a_master_without_listeners_is_on_its_way_out() -> None:
    seen = Model(path=NEW_SHA).usr2_old().observe()
    old, new = seen.masters
    leaving_old = old._replace(workers=(), listeners=())
    leaving_new = new._replace(workers=(), listeners=())

    assert classify(seen._replace(masters=(leaving_old, new)), NEW_SHA) is Phase.RETIRING
    assert classify(seen._replace(masters=(old, leaving_new)), NEW_SHA) is Phase.DISMISSING


def test_only_a_host_behind_where_it_was_left_went_back() -> None:
    assert is_behind(Phase.OLD, Phase.TRIAL)
    assert is_behind(Phase.TRIAL, Phase.NEW)
    assert not is_behind(Phase.NEW, Phase.TRIAL)
    assert not is_behind(Phase.OLD, None)
    assert all(not is_behind(phase, phase) for phase in RANK)


# Walks over the model


def put_new(model: Model) -> Model:
    return model.put(NEW_SHA)


def put_strange(model: Model) -> Model:
    return model.put("c" * 64)


HARMLESS: tuple[Callable[[Model], Model], ...] = (
    Model.hup_old,
    Model.hup_new,
    Model.kill_new,
    Model.usr2_old,
    put_new,
    put_strange,
)
"""Outside events (a reload, a death, another operator half-way) after which a master that is left accepts, whatever the
phase: the parent gives itself workers."""

DEADLY: tuple[Callable[[Model], Model], ...] = (Model.kill_old, Model.winch_new, Model.winch_old, Model.quit_old)


class Walk:
    """The procedure over the model, as a visit does it: look, ask the table, act."""

    def __init__(self, model: Model, target: str, rest: Rest, allowed: tuple[Step, ...] = EVERYTHING) -> None:
        self.model, self.target, self.rest, self.allowed = model, target, rest, allowed
        self.verified: tuple[int, int] | None = None
        self.last: Move | None = None

    def move(self, lost: bool = False) -> Move:
        """One look and one move; a lost request changes nothing, a lost reply is the same as a fresh look."""
        seen = self.model.observe()
        now = situation(seen, self.target)._replace(verified=self._is_verified(seen))
        self.last = next_step(self.rest, now, self.allowed)
        if self.last.kind is MoveKind.ACT and self.last.step and not lost:
            before = self.model
            if refuses(before, self.last.step):
                self._go_home(seen)
                return self.last
            self.model = take(self.model, self.last.step, self.target)
            if self.last.step is Step.VERIFY:
                self.verified = (seen.masters[-1].pid, seen.masters[-1].start)
            assert self.model.master_accepts or not before.master_accepts, "a step of fleet's took the service away"
        return self.last

    def _go_home(self, seen: Observation) -> None:
        """As a visit does that failed: back to what the elder master runs."""
        self.target, self.rest = seen.masters[0].sha256 or OLD_SHA, Rest.FINAL

    def _is_verified(self, seen: Observation) -> bool:
        return bool(seen.masters) and self.verified == (seen.masters[-1].pid, seen.masters[-1].start)

    def to_the_end(self) -> Move:
        for _ in range(20):
            move = self.move()
            if move.kind is not MoveKind.ACT:
                return move
        raise AssertionError(f"no end: {self.model} {move}")


faults = st.one_of(
    st.just("lost"),
    st.just("turn"),
    st.sampled_from(HARMLESS),
    st.sampled_from(DEADLY),
)


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, 3), faults), max_size=6), st.sampled_from(list(Rest)))
def test_every_walk_reaches_its_goal_or_says_why_not(
    story: list[tuple[int, str | Callable[[Model], Model]]], rest: Rest
) -> None:
    """Steps, and between any two of them a fault: a lost message, a stop, a killed process, a change from outside."""
    walk = Walk(Model(), NEW_SHA, rest)
    for steps, fault in story:
        for _ in range(steps):
            walk.move()
        if fault == "lost":
            walk.move(lost=True)
        elif fault == "turn":
            walk = Walk(walk.model, OLD_SHA if walk.target == NEW_SHA else NEW_SHA, Rest.FINAL)
        elif callable(fault):
            served = walk.model.master_accepts
            walk.model = fault(walk.model)
            assert walk.model.master_accepts or not served or fault in DEADLY

    end = walk.to_the_end()

    phase = classify(walk.model.observe(), walk.target)
    if end.kind is MoveKind.ARRIVED:
        assert walk.model.serves
        assert phase is (Phase.TRIAL if walk.rest is Rest.HELD and phase is Phase.TRIAL else Phase.NEW)
        assert phase is Phase.TRIAL or walk.model.path == walk.target
    else:
        assert phase in (Phase.DOWN, Phase.FOREIGN)


@given(st.lists(st.sampled_from([*HARMLESS, *DEADLY]), max_size=5))
def test_a_stranded_host_is_revived_whatever_the_goal(acts: list[Callable[[Model], Model]]) -> None:
    model = Model(path=NEW_SHA).usr2_old()
    for act in acts:
        model = act(model)

    for target, rest in product((OLD_SHA, NEW_SHA), Rest):
        if classify(model.observe(), target) is Phase.STRANDED:
            assert Walk(model, target, rest).move().step is Step.REVIVE


def test_the_steps_allowed_to_a_rollback_are_enough_from_every_phase() -> None:
    """From every phase that a forward visit can leave half-done, the steps back reach the old release."""
    swapped = Model(path=NEW_SHA)
    for model in (
        swapped,
        swapped.usr2_old(),
        swapped.usr2_old().winch_old(),
        swapped.usr2_old().winch_old().hup_old(),
    ):
        walk = Walk(model, OLD_SHA, Rest.FINAL, GOING_BACK)
        while walk.move().kind is MoveKind.ACT:
            assert walk.last is not None
            assert walk.last.step in GOING_BACK
        assert (walk.model.old, walk.model.new, walk.model.path) == (OLD_SHA, None, OLD_SHA)
