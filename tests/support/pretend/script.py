"""A step script on a pretend host: the walk of one visit over the model nginx, and all that may break it off."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Protocol

from fleet.onhost.procedure import MoveKind, next_step, situation
from fleet.onhost.protocol import Ask, Goal, Observation, Outcome, Phase, Record, Request, Rest, State, Step
from fleet.onhost.state.store import InstanceStore, Serving
from fleet.onhost.steps.verify import is_unconfirmed
from fleet.onhost.visit.walk import ARRIVED_AT, GOING_BACK, LEASE_RAN_OUT, RESTING, End, ended
from tests.support.onhost.model import WORKERS, Model, refuses, take

MOST_MOVES = 30


class Killed(Exception):
    """The step script was killed: nothing more is done, and nobody answers."""


@dataclass(frozen=True, slots=True)
class Mishap:
    """What goes wrong during a visit: after so many steps the script is killed, or turns back, and why; the new workers
    answer badly; old connections don't end.
    """

    killed_after: int | None = None
    turns_after: int | None = None
    why: str = "controller_gone"
    answers_badly: bool = False
    drains_on: bool = False


WELL = Mishap()


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that a host takes, and for whom."""

    step: Step
    request: Request
    target: str


class Place(Protocol):
    """The host that a script works on. `watch` is told each step before it is taken."""

    model: Model
    watch: Callable[[Taken], None]

    @property
    def own(self) -> InstanceStore: ...


class Script:
    """One visit to one host."""

    def __init__(self, place: Place, request: Request, mishap: Mishap) -> None:
        self.place = place
        self.request = request
        self.mishap = mishap
        self._verified: tuple[int, int] | None = None
        self._taken = 0
        self._has_swapped = False

    @property
    def record(self) -> Record:
        record = self.place.own.record
        assert record is not None
        return record

    def act(self, goal: Goal) -> End:
        """The walk, and where it must turn back the walk to the nearest resting phase. Raises `Killed`."""
        end = self._go(goal.target, goal.rest, self.request.allowed) or self._arrived()
        return end if end.outcome is Outcome.DONE else self._to_rest(end, goal.target)

    def _go(self, target: str, rest: Rest, allowed: Collection[Step], calm: bool = False) -> End | None:
        """`None` when the goal is reached, else why not."""
        taken: list[tuple[Step, int]] = []
        for _ in range(MOST_MOVES):
            seen = self.place.model.observe()
            now = situation(seen, target, self._belongs(target))
            move = next_step(rest, now, self._is_verified(seen), allowed)
            confirms = move.kind is MoveKind.ARRIVED and self._is_unconfirmed(seen, target, allowed)
            if move.kind is MoveKind.ARRIVED and not confirms:
                return None
            step = Step.VERIFY if confirms else move.step
            if move.kind is MoveKind.BLOCKED or step is None:
                return self.blocked(now.phase, step)
            if (step, seen.masters[-1].pid) in taken:
                return went_back_in_between(now.phase)
            if not calm and self.mishap.turns_after is not None and self._taken >= self.mishap.turns_after:
                return End(Outcome.FAILED, self.mishap.why, "the visit turned back")
            taken.append((step, seen.masters[-1].pid))
            if end := self._take(step, target):
                return end
        raise AssertionError("the walk has no end")

    def _take(self, step: Step, target: str) -> End | None:
        if self.mishap.killed_after is not None and self._taken >= self.mishap.killed_after:
            raise Killed
        self._taken += 1
        model = self.place.model
        alone = step is Step.VERIFY and model.new is None
        if step is Step.VERIFY and target == self.record.target and self.mishap.answers_badly:
            return ended(Outcome.FAILED, "probe_failed", trouble="it answers 500")
        if step is Step.RETIRE and self._drains_on(target):
            return ended(Outcome.DONE, "drain_pending", waited=self.request.options.drain_timeout_s)
        if refuses(model, step) and not alone:
            return ended(Outcome.FAILED, "workers_missing", has=0, waited=5.0, wanted=WORKERS)
        self.place.watch(Taken(step, self.request, target))
        belongs = self._belongs(target) if step in (Step.RESTORE, Step.SWEEP) else target
        self.place.model = take(model, step, belongs)
        self._has_swapped |= step is Step.SWAP
        if step is Step.VERIFY:
            self._remember(self.place.model.observe())
        return None

    def _drains_on(self, target: str) -> bool:
        return self.mishap.drains_on and not self.request.options.cut and target == self.record.target

    def _remember(self, seen: Observation) -> None:
        new = seen.masters[-1]
        self._verified = new.pid, new.start
        self.place.own.write_serving(replace_verified(self.place.own.serving, self._verified))

    def _belongs(self, target: str) -> str:
        return self.record.before_file if target == self.record.before_process else target

    def _is_verified(self, seen: Observation) -> bool:
        return len(seen.masters) == 2 and self._verified == (seen.masters[1].pid, seen.masters[1].start)

    def _is_unconfirmed(self, seen: Observation, target: str, allowed: Collection[Step]) -> bool:
        forward = target == self.record.target and Step.VERIFY in allowed
        return forward and is_unconfirmed(seen, self.record, self.place.own.serving)

    def _arrived(self) -> End:
        state = ARRIVED_AT.get(self.request.ask)
        if state is State.ROLLED_BACK:
            self._put_right()
        if state is not None:
            by = self.place.own.machine.utc()
            why = LEASE_RAN_OUT % by if self.request.ask is Ask.LEASE else ""
            self.place.own.write_record(self.record._replace(state=state, why=why))
        return End(Outcome.DONE)

    def _put_right(self) -> None:
        """One set of workers, where somebody's reload has doubled them."""
        model = self.place.model
        if model.new is None and model.old_accepting > WORKERS:
            self.place.model = replace(model, old_accepting=WORKERS)

    def _to_rest(self, end: End, target: str) -> End:
        model = self.place.model
        seen = model.observe()
        now = situation(seen, target, self._belongs(target))
        astray = self._has_swapped and now.phase is Phase.OLD and seen.path_sha256 != self.record.before_file
        if not seen.masters or now.phase is Phase.FOREIGN or (now.phase in RESTING and not astray):
            return end
        if now.phase is Phase.NEW and now.path_right:
            return end
        home = seen.masters[0].sha256 or self.record.before_process
        worse = self._go(home, Rest.FINAL, GOING_BACK, calm=True)
        if worse is None:
            self._put_right()
            return end
        return ended(Outcome.FAILED, "failed_to_go_back", worse=worse.message, first=end.message, remedy=worse.remedy)

    def blocked(self, phase: Phase, missing: Step | None) -> End:
        """Why nothing can be done from here."""
        orphans = self.place.model.observe().orphans
        if phase is Phase.DOWN and orphans:
            return ended(Outcome.FAILED, "orphans_only", pids=" ".join(map(str, orphans)), command="nginx")
        if phase is Phase.DOWN:
            return ended(Outcome.FAILED, "down", command="nginx")
        if phase is Phase.FOREIGN:
            return ended(Outcome.FAILED, "foreign", who="somebody else's masters")
        return went_back_in_between(phase, f"this visit may not {missing.value if missing else 'go on from there'}")


def went_back_in_between(phase: Phase, cause: str = "this visit's step is undone") -> End:
    """The end of a visit that finds its own work undone."""
    return ended(Outcome.FAILED, "went_back", phase=phase.value, cause=cause, journal="journal.jsonl")


def replace_verified(serving: Serving, verified: tuple[int, int]) -> Serving:
    """What later visits know, with this master verified."""
    return serving._replace(verified_master=verified)
