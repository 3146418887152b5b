"""Rollouts of two operators over pretend hosts, in any order and with everything going wrong: what holds all the same.

The engine, the decisions, the journal's text, the host's fence, claim, lease and procedure are the real ones; only nginx is
a model, and time and threads are ours. The rules are what may happen; the invariants are looked at after each of them.

    the journal, read again and folded, is the status that is shown
    no host is begun once the budget is exceeded; no two visits of a run are on one host
    no old request moves a rolled-back host forward
    no visit takes a host's service away
    at the end `resume` brings every host to rest, and `rollback` brings it to what it ran before
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fleet.events import EventType, load
from fleet.onhost.protocol import FORWARD_STEPS, Ask, Outcome, Phase, State, Step
from fleet.rollout.going_back import most_visits
from fleet.rollout.host_status import KnownReason
from fleet.rollout.policy import CLAIM_S, CommitWhen, OnFailure, Policy
from fleet.rollout.rollout_status import Stage
from fleet.task import HostOutcome, HostTask
from tests.support.onhost.model import Model
from tests.support.pretend.visit import WELL, Mishap, Taken
from tests.support.pretend.visits import LOST_BEFORE, NEW, REFUSED, THIRD, UNREACHABLE, Pretend, names
from tests.support.rollout.commanded import Laptop
from tests.support.rollout.laptops import Ground, Pending, Run, Written

LONG = "FLEET_TEST_LONG" in os.environ

POLICIES = st.builds(
    Policy,
    bake_s=st.sampled_from([0.0, 10.0]),
    max_failures=st.integers(0, 2),
    on_failure=st.sampled_from(OnFailure),
    commit=st.sampled_from(CommitWhen),
    parallel=st.integers(1, 4),
    lease_s=st.sampled_from([0.0, 60.0]),
)
STEPS = st.integers(0, 4)
ANSWERS = st.sampled_from(["well", "bad", "drains", "unreachable", "refused"])
LOSSES = st.sampled_from(["before", "after"])
BREAKS = st.sampled_from(["turned", "late", "killed", "power"])
BY_HAND = st.sampled_from([None, Model.hup_old, Model.hup_new, Model.kill_new, Model.kill_old, Model.quit_old])
SIZES = st.lists(st.integers(1, 3), max_size=2)
PICK = st.integers(0, 30)


@dataclass(frozen=True)
class Undone:
    """A rollout was rolled back on a host, with this epoch."""

    epoch: int


SETTLED = (Phase.NEW, Phase.OLD, Phase.TRIAL)
MOVING = (Ask.UPGRADE, Ask.COMMIT, Ask.ROLLBACK)


def is_busy(machine: "Rollouts") -> bool:
    """Whether any visit is under way."""
    return any(run.desk.pending for run in machine.live)


def is_moving(machine: "Rollouts") -> bool:
    """Whether any visit is under way that moves its host."""
    return bool(machine.under_way(MOVING))


class Rollouts(RuleBasedStateMachine):
    """Two laptops and four hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.ground = Ground({})
        self.ground.hosts.update({name: Pretend(name, self.ground.clock) for name in names(4)})
        self.ground.after = self._after
        for host in self.ground.hosts.values():
            host.watch = partial(self._watch, host)
        self.laptops = [Laptop(name, self.ground, check_visit) for name in ("alice", "bob")]
        self.live: list[Run] = []
        self.undone: dict[tuple[str, str], Undone] = {}
        self.rollouts = 0

    # What the invariants read of the hosts

    def _watch(self, host: Pretend, taken: Taken) -> None:
        """A host is about to take a step."""
        request = taken.request
        if request.ask not in (Ask.UPGRADE, Ask.COMMIT) or taken.step not in FORWARD_STEPS:
            return
        record = host.record
        assert record is not None
        assert record.rollout == request.rollout
        assert request.ask is Ask.UPGRADE or taken.step not in (Step.SWAP, Step.LAUNCH)
        undone = self.undone.get((host.name, request.rollout))
        if undone is not None:
            assert request.reopen, f"{taken.step} on {host.name} by a request that was undone there"
            assert request.epoch > undone.epoch

    def _after(self, task: HostTask, host: Pretend) -> None:
        key = host.name, task.request.rollout
        if task.request.take_over:
            self.undone[key] = Undone(host.epoch)

    # What operators do

    def _laptop(self, pick: int) -> Laptop:
        return self.laptops[pick % len(self.laptops)]

    def _has_begun(self, run: Run | None) -> None:
        if run is not None:
            self.live.append(run)
        self._clear_away()

    def _clear_away(self) -> None:
        for run in [run for run in self.live if run.is_over]:
            assert not run.engine._bugs
            run.is_told_rightly()
            self._gone(run)

    def _gone(self, run: Run) -> None:
        self.live.remove(run)
        for laptop in self.laptops:
            laptop.let_go(run)

    def _run(self, pick: int) -> Run:
        return self.live[pick % len(self.live)]

    def _host(self, pick: int) -> Pretend:
        return list(self.ground.hosts.values())[pick % len(self.ground.hosts)]

    @initialize(policy=POLICIES, sizes=SIZES, visits=st.integers(0, 16))
    def begins(self, policy: Policy, sizes: list[int], visits: int) -> None:
        """A rollout without a failure so far, mostly past its preflight."""
        self.upgrade(0, NEW, policy, sizes)
        self.goes_well(0, visits if visits < 3 else visits + 1)

    @rule(
        pick=PICK,
        release=st.sampled_from([NEW, NEW, THIRD]),
        policy=POLICIES,
        sizes=SIZES,
    )
    @precondition(lambda self: self.rollouts < 5)
    def upgrade(self, pick: int, release: str, policy: Policy, sizes: list[int]) -> None:
        self.rollouts += 1
        self._has_begun(self._laptop(pick).upgrade(f"r{self.rollouts}", release, policy, sizes))

    @rule(pick=PICK)
    @precondition(lambda self: len(self.live) < 3)
    def resume(self, pick: int) -> None:
        self._has_begun(self._resume(self._laptop(pick)))

    @rule(pick=PICK)
    @precondition(lambda self: len(self.live) < 3)
    def commit(self, pick: int) -> None:
        self._has_begun(self._laptop(pick).commit())

    @rule(pick=PICK)
    @precondition(lambda self: len(self.live) < 3)
    def rollback(self, pick: int) -> None:
        self._has_begun(self._laptop(pick).rollback())

    def _resume(self, laptop: Laptop) -> Run | None:
        begun = [written.rollout for written in laptop.book.runs if written.command == "upgrade"]
        last = next((written for written in reversed(laptop.book.runs) if written.rollout in begun[-1:]), None)
        run = laptop.resume()
        if run is not None and run.recorder is not None and last is not None and went_back(last):
            assert run.recorder.written.command == "rollback"
        return run

    @rule(pick=PICK, how=st.sampled_from(["turns back", "is killed", "sleeps", "its disk is full"]), steps=STEPS)
    @precondition(lambda self: self.live)
    def a_laptop_fails(self, pick: int, how: str, steps: int) -> None:
        """Ctrl-C, kill -9, a closed lid, a journal that can't be written until the end."""
        run = self._run(pick)
        if how == "turns back":
            run.turn_back()
        elif how == "is killed":
            self._kill(run, steps)
        elif how == "sleeps":
            self._sleep(run)
        elif run.recorder is not None:
            run.recorder.book.is_full = True
        self._clear_away()

    def _kill(self, run: Run, steps: int) -> None:
        """The controller is gone; every other of its visits still arrives at its host, and then turns back."""
        run.is_told_rightly()
        for pending in run.desk.pending[::2]:
            self.ground.lose(pending.task, Mishap(turns_after=steps), 4.0)
        self._gone(run)

    def _sleep(self, run: Run) -> None:
        """Every link is cut, and every script turns back."""
        for pending in run.desk.pending:
            self.ground.lose(pending.task, Mishap(turns_after=0), 4.0)
        self.ground.pass_time(100.0)
        run.slept_s += 100.0
        for pending in list(run.desk.pending):
            run.end(pending, named(LOST_BEFORE, pending.host))

    # What becomes of visits

    @rule(pick=PICK, answer=ANSWERS)
    @precondition(is_busy)
    def a_host_answers(self, pick: int, answer: str) -> None:
        """Any of the visits that run ends, in any order."""
        run, pending = self._pending(pick)
        canned = {"unreachable": UNREACHABLE, "refused": REFUSED}.get(answer)
        if canned is not None:
            return self._ends(run, pending, named(canned, pending.host))
        mishap = Mishap(answers_badly=answer == "bad", drains_on=answer == "drains")
        return self._ends(run, pending, self._act(pending, mishap))

    @rule(pick=PICK, loss=LOSSES)
    @precondition(is_busy)
    def a_link_is_lost(self, pick: int, loss: str) -> None:
        """Before the host heard the request, or after it had done all."""
        run, pending = self._pending(pick)
        if loss == "after":
            self._act(pending, WELL)
        self._ends(run, pending, named(LOST_BEFORE, pending.host))

    @rule(pick=PICK, way=BREAKS, steps=STEPS)
    @precondition(is_moving)
    def a_visit_breaks_off(self, pick: int, way: str, steps: int) -> None:
        """In the middle of a visit: its script turns back at a stop, or later without a controller; it or its host dies."""
        run, pending = self._pending(pick)
        if way == "late":
            return self._ends(run, pending, self.ground.lose(pending.task, Mishap(turns_after=steps), float(steps)))
        if way == "turned":
            mishap = Mishap(turns_after=steps, why="interrupted") if run.stops else WELL
            return self._ends(run, pending, self._act(pending, mishap))
        self._act(pending, Mishap(killed_after=steps))
        if way == "power":
            self.ground.off.add(pending.host)
        return self._ends(run, pending, named(LOST_BEFORE, pending.host))

    def under_way(self, asks: Collection[Ask] = tuple(Ask)) -> list[tuple[Run, Pending]]:
        """The visits for one of these that run now."""
        found = [(run, pending) for run in self.live for pending in run.desk.pending]
        return [(run, pending) for run, pending in found if pending.task.request.ask in asks]

    def _pending(self, pick: int) -> tuple[Run, Pending]:
        """One of the visits that move a host, where there is one: most is at stake there."""
        self.ground.pass_time(1.0)
        found = self.under_way(MOVING) or self.under_way()
        return found[pick % len(found)]

    def _ends(self, run: Run, pending: Pending, outcome: HostOutcome) -> None:
        run.end(pending, outcome)
        self._clear_away()

    @rule(pick=PICK, visits=st.integers(1, 12))
    @precondition(lambda self: self.live)
    def goes_well(self, pick: int, visits: int) -> None:
        """So many visits of a run end well, and where none is under way time passes until one is."""
        run = self._run(pick)
        for _ in range(visits):
            if run.is_over:
                break
            if not run.desk.pending:
                self.ground.pass_time(2.0)
                run.engine.turn()
                continue
            pending = run.desk.pending[0]
            run.end(pending, self._act(pending, WELL))
        self._clear_away()

    def _act(self, pending: Pending, mishap: Mishap) -> HostOutcome:
        return self.ground.act(pending.task, mishap)

    # What becomes of hosts

    @rule(pick=PICK, act=BY_HAND)
    def by_hand(self, pick: int, act: Any) -> None:
        """A signal from outside, the death of a process, or a boot, which switches on every host that is off."""
        host = self._host(pick)
        if act is None:
            for name in sorted(self.ground.off) or [host.name]:
                self.ground.hosts[name].boot()
            self.ground.off.clear()
        elif host.name not in self.ground.off and host.record is not None:
            host.model = act(host.model)

    @rule(seconds=st.sampled_from([0.0, 2.0, 8.0, 20.0, 100.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.ground.pass_time(seconds)
        for run in list(self.live):
            run.engine.turn()
        self._clear_away()

    # What holds after each

    @invariant()
    def what_is_shown_is_what_is_written(self) -> None:
        for run in self.live:
            run.is_told_rightly()

    @invariant()
    def every_host_is_counted_once(self) -> None:
        for run in self.live:
            counts = run.status.counts
            assert sum(counts.values()) == 2 * counts["hosts"]

    # What holds at the end

    def teardown(self) -> None:
        self._repair()
        for run in list(self.live):
            self._gone(run)
        self._go_on()
        for host in self.ground.hosts.values():
            check_rest(host)
        for _ in range(8):
            if not self._take_back():
                break
        for host in self.ground.hosts.values():
            check_rest(host)
            assert host.record is None or host.record.state is not State.BEGUN, host.record

    def _repair(self) -> None:
        """All hosts are up and run one nginx at least, and every old visit is over."""
        for laptop in self.laptops:
            laptop.book.is_full = False
        for host in self.ground.hosts.values():
            if host.name in self.ground.off:
                host.boot()
            elif not host.model.observe().masters:
                host.start()
        self.ground.off.clear()
        self.ground.pass_time(10.0)

    def _open(self) -> list[str]:
        """The rollouts that some host is still in, in the order in which they began."""
        found = {
            host.record.rollout
            for host in self.ground.hosts.values()
            if host.record is not None and host.record.state is State.BEGUN
        }
        return sorted(found)

    def _go_on(self) -> None:
        """The operator of an open rollout resumes it, or another operator does, without a journal."""
        for rollout in self._open():
            owners = [laptop for laptop in self.laptops if any(w.rollout == rollout for w in laptop.book.runs)]
            run = self._resumed((owners or self.laptops)[0], rollout)
            if run is not None and is_claimed(run):
                # A dead run of another journal has claimed a host: that keeps it for no longer than the expiry.
                self.ground.pass_time(CLAIM_S + 1)
                run = self._resumed((owners or self.laptops)[0], rollout)
                assert run is None or not is_claimed(run), run.status.message
        self._finish_ways_back()

    def _finish_ways_back(self) -> None:
        """A rollback that broke off, after the commit or by another operator: no `resume` takes its hosts any further,
        `rollback` finishes it.
        """
        undone = {rollout for host in self.ground.hosts.values() for rollout in host.report().undone}
        for host in self.ground.hosts.values():
            record = host.record
            if record is None or host.phase() in SETTLED:
                continue
            if record.state is State.COMMITTED or record.rollout in undone:
                run = self.laptops[1].rollback(record.rollout)
                assert run is not None
                self._to_the_end(run)

    def _resumed(self, laptop: Laptop, rollout: str) -> Run | None:
        run = laptop.resume(rollout)
        if run is not None:
            self._to_the_end(run)
        return run

    def _to_the_end(self, run: Run) -> None:
        run.to_the_end()
        run.is_told_rightly()
        for laptop in self.laptops:
            laptop.let_go(run)

    def _take_back(self) -> bool:
        """The newest rollout that is in force is taken back; whether there was one."""
        force = [
            host.record
            for host in self.ground.hosts.values()
            if host.record is not None and host.record.state is not State.ROLLED_BACK
        ]
        if not force:
            return False
        rollout = max(force, key=lambda record: (record.at, record.rollout)).rollout
        mine = [host for host in self.ground.hosts.values() if host.record and host.record.rollout == rollout]
        before = {host.name: host.record.before_process for host in mine if host.record}
        run = self.laptops[1].rollback(rollout)
        assert run is not None
        self._to_the_end(run)
        for host in mine:
            assert host.runs == before[host.name], f"{host.name} {run.status.message}"
            assert host.phase() is Phase.OLD
        return True


def test_a_rollback_by_another_operator_that_was_killed_half_way_is_finished_by_a_rollback() -> None:
    """The resume of the first operator names that host and leaves it alone. (Found by the machine above.)"""
    machine = Rollouts()
    policy = Policy(
        bake_s=0.0, max_failures=0, on_failure=OnFailure.ROLLBACK, commit=CommitWhen.END, parallel=1, lease_s=0.0
    )
    machine.begins(policy=policy, sizes=[1], visits=4)
    machine.rollback(pick=1)
    machine.a_visit_breaks_off(pick=0, way="killed", steps=1)
    host = machine.ground.hosts["web-01"]
    assert (host.phase(), host.report().undone) == (Phase.OVERLAP, ("r1",))
    machine.ground.pass_time(CLAIM_S + 1)
    for run in list(machine.live):
        machine._gone(run)

    resumed = machine._resumed(machine.laptops[0], "r1")

    assert resumed is not None
    assert (resumed.status.exit_code, host.phase()) == (4, Phase.OVERLAP)
    assert "did not finish on web-01. Finish it first: `fleet rollback r1`." in resumed.status.message

    machine.teardown()

    assert host.phase() is Phase.OLD


def test_a_rollback_by_another_operator_that_never_came_to_all_hosts_is_finished_by_a_rollback() -> None:
    """The resume of the first operator halts: its canary has gone back. (Found by the machine above, in a long run.)"""
    machine = Rollouts()
    policy = Policy(
        bake_s=0.0, max_failures=0, on_failure=OnFailure.ROLLBACK, commit=CommitWhen.END, parallel=1, lease_s=0.0
    )
    machine.begins(policy=policy, sizes=[1], visits=11)
    machine.rollback(pick=1)
    machine.by_hand(act=Model.hup_old, pick=2)
    machine.a_host_answers(answer="well", pick=0)
    hosts = list(machine.ground.hosts.values())
    assert [host.phase() for host in hosts] == [Phase.OLD, Phase.TRIAL, Phase.OVERLAP, Phase.TRIAL]

    machine.teardown()

    assert {host.phase() for host in hosts} == {Phase.OLD}


def test_a_commit_of_a_rollout_that_was_resumed_is_not_outdated() -> None:
    """A resume had raised the epoch above that of the record; a reload by hand brought the old workers back. (Found by the
    machine above.)
    """
    machine = Rollouts()
    policy = Policy(
        bake_s=0.0, max_failures=0, on_failure=OnFailure.ROLLBACK, commit=CommitWhen.END, parallel=1, lease_s=0.0
    )
    machine.begins(policy=policy, sizes=[], visits=3)
    machine.a_visit_breaks_off(pick=0, steps=0, way="turned")
    machine.a_laptop_fails(how="is killed", pick=0, steps=0)
    machine.resume(pick=0)
    for _ in range(6):
        machine.a_host_answers(answer="well", pick=0)
    machine.a_laptop_fails(how="turns back", pick=0, steps=0)
    machine.a_visit_breaks_off(pick=0, steps=0, way="turned")
    machine.by_hand(act=Model.hup_old, pick=0)
    machine.commit(pick=0)

    machine.teardown()

    assert {host.phase() for host in machine.ground.hosts.values()} == {Phase.OLD}


def test_a_lost_commit_of_a_host_that_a_new_rollout_took_since_is_refused_by_the_host() -> None:
    """It is asked again, because it was lost, and the new rollout goes on. (Found by the machine above, in a long run.)"""
    machine = Rollouts()
    policy = Policy(
        bake_s=0.0, max_failures=0, on_failure=OnFailure.ROLLBACK, commit=CommitWhen.NEVER, parallel=1, lease_s=0.0
    )
    machine.begins(policy=policy, sizes=[], visits=0)
    machine.goes_well(pick=0, visits=12)
    machine.commit(pick=1)
    machine.a_link_is_lost(loss="before", pick=0)
    machine.upgrade(pick=0, policy=policy, release=NEW, sizes=[])
    machine.rollback(pick=0)
    for pick, visits in ((0, 7), (1, 5), (0, 1)):
        machine.goes_well(pick=pick, visits=visits)

    machine.teardown()

    assert {host.phase() for host in machine.ground.hosts.values()} == {Phase.OLD}


def named(outcome: HostOutcome, host: str) -> HostOutcome:
    """The canned outcome as this host's."""
    return HostOutcome(host, outcome.outcome, outcome.reason, outcome.message, outcome.remedy)


def went_back(written: Written) -> bool:
    """Whether a run was taking its hosts back when it ended or broke off."""
    return any(load(text).type is EventType.ROLLBACK_STARTED for text in written.texts)


def is_claimed(run: Run) -> bool:
    """Whether a host was refused because another journal's run has it."""
    return any(host.fault is not None and host.fault.known_reason is KnownReason.CLAIMED for host in run.status.all)


def check_visit(run: Run, task: HostTask) -> None:
    """What must be so when a run begins a visit."""
    status, ask = run.status, task.request.ask
    host = status.hosts[task.host.name]
    is_going_back = status.stage is Stage.ROLLING_BACK
    assert task.host.name not in [pending.host for pending in run.desk.pending]
    most = most_visits(run.tasks.policy.parallel) if is_going_back else run.tasks.policy.parallel
    assert len(run.desk.pending) < most
    if ask in MOVING:
        assert not (host.last.outcome is Outcome.LINK_LOST and host.last.ask is ask), (
            "repeated without having been looked at"
        )
    if ask is Ask.UPGRADE:
        policy = run.tasks.policy
        at_fault = [name for name, each in status.hosts.items() if each.fault is not None]
        assert policy.on_failure is OnFailure.CONTINUE or len(at_fault) <= policy.max_failures
        assert host.fault is None
        assert not status.stopping
    if ask is Ask.COMMIT:
        assert host.report is not None
        assert host.report.record is not None
        # One whose commit was lost is asked again wherever it rests, and in whatever rollout: from OLD it says itself that it
        # went back, and in another rollout that it was taken over.
        was_lost = host.visited(Ask.COMMIT) > 1
        assert host.report.record.rollout == status.rollout or was_lost
        assert host.phase is not Phase.OLD or was_lost


def check_rest(host: Pretend) -> None:
    """The host is at rest in a phase that its record accounts for."""
    record, phase, model = host.record, host.phase(), host.model
    assert model.master_accepts
    if record is None:
        assert phase is Phase.OLD
    elif record.state is State.BEGUN:
        assert phase in SETTLED, (host.name, phase, record)
    elif record.state is State.COMMITTED:
        # TRIAL is a rollback after the commit that was broken off once the kept release served again.
        assert phase in SETTLED, (host.name, phase, record)
    else:
        assert phase is Phase.OLD, (host.name, phase, record)


TestRollouts = Rollouts.TestCase
# `make test` plays the same schedules each time, so that a red run is red again; `make test-long` draws new ones.
TestRollouts.settings = settings(
    max_examples=5000 if LONG else 120, stateful_step_count=60 if LONG else 40, deadline=None, derandomize=not LONG
)
