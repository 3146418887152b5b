"""Commands that begin with a look at the hosts, played over pretend hosts."""

from dataclasses import replace
from functools import partial

from fleet.onhost.protocol import Ask, Record, State
from fleet.rollout.actions import Finish
from fleet.rollout.commit import commit_status, decide_commit
from fleet.rollout.from_hosts import newest
from fleet.rollout.policy import CommitWhen, Policy
from fleet.rollout.rollback import decide_rollback, rollback_status
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.single_visit import decide_single_visit
from tests.support.pretend.visits import NEW, OLD, Fleet
from tests.support.rollout.playing import Play, a_play

QUICK = Policy(bake_s=0.0)
WHEN_DRAINED = replace(QUICK, commit=CommitWhen.WHEN_DRAINED)
HELD = replace(QUICK, commit=CommitWhen.NEVER)
PARALLEL = 50


def look(fleet: Fleet) -> RolloutStatus:
    """The status after one look at every host."""
    game = a_play(fleet, QUICK, sizes=(99,))
    game.to_the_end(partial(decide_single_visit, Ask.LOOK, PARALLEL))
    fleet.calls.clear()
    fleet.tasks.clear()
    return game.status


def rollback(fleet: Fleet, rollout: str | None = None) -> tuple[Finish, Play]:
    looked = look(fleet)
    chosen = rollout or newest(looked)
    assert chosen is not None
    game = replace(a_play(fleet, QUICK), status=rollback_status(looked, chosen))
    game.tasks = replace(game.tasks, target=None)
    return game.to_the_end(partial(decide_rollback, PARALLEL)), game


def commit(fleet: Fleet, policy: Policy = QUICK) -> tuple[Finish, Play]:
    looked = look(fleet)
    chosen = newest(looked)
    assert chosen is not None
    game = replace(a_play(fleet, policy), status=commit_status(looked, chosen))
    game.tasks = replace(game.tasks, target=None)
    return game.to_the_end(partial(decide_commit, policy)), game


def a_record(rollout: str, at: str, state: State = State.BEGUN) -> Record:
    return Record(rollout, 3, "bob@desk", NEW, OLD, OLD, at, state)
