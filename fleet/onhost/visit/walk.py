"""One visit: look, and go towards the goal as far as this request may.

The walk asks `next_step` after every look, so that upgrade, resume, retry and rollback are this one loop. A forward
walk that fails, or whose operator turned back, before `drain` ends where it began: the new master dismissed, the file
restored. From `drain` on it ends held, which two signals undo.
"""

import sys
import traceback
from typing import Callable, List, NamedTuple, Optional, Tuple

from fleet.onhost.nginx.observe import Observer
from fleet.onhost.procedure import Move, MoveKind, Situation, is_behind, next_step, situation
from fleet.onhost.protocol import (
    FORWARD_STEPS,
    Ask,
    Goal,
    Observation,
    Outcome,
    Phase,
    Record,
    Reply,
    ReplyType,
    Request,
    Rest,
    State,
    Step,
)
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.steps import back, forward
from fleet.onhost.steps.after_rollback import put_right
from fleet.onhost.steps.context import Site, StepFailed, StepRefused, TurnedBack
from fleet.onhost.steps.launch import launch
from fleet.onhost.steps.verify import confirm, is_unconfirmed, look_after, verify
from fleet.onhost.system.machine import Gone
from fleet.onhost.visit.report import start_command
from fleet.onhost.wire import Malformed

Say = Callable[[Reply], None]
MOST_MOVES = 40
WAIT_S = 20.0
GOING_BACK = (Step.REVIVE, Step.DISMISS, Step.RESTORE, Step.RETIRE, Step.SWEEP)
WATCHED = (Phase.OVERLAP, Phase.TRIAL, Phase.RETIRING, Phase.NEW)
RESTING = (Phase.OLD, Phase.TRIAL, Phase.RETIRING)


ARRIVED_AT = {Ask.ROLLBACK: State.ROLLED_BACK, Ask.LEASE: State.ROLLED_BACK, Ask.COMMIT: State.COMMITTED}
LEASE_RAN_OUT = "its lease ran out: nobody had renewed or committed it by %s"


class End(NamedTuple):
    """How a visit ended."""

    outcome: Outcome
    reason: Optional[str] = None
    message: str = ""
    remedy: str = ""


def ended(outcome: Outcome, word: str, **facts: object) -> End:
    """The end that this word names, with the facts filled in."""
    found = finding(word, **facts)
    return End(outcome, word, found.message, found.remedy)


class Walk:
    """The way of one visit from wherever the host is to its goal. Remembers what this visit alone knows: `verified`."""

    def __init__(self, site: Site, say: Say) -> None:
        self.site = site
        self.say = say
        self._verified: Optional[Tuple[int, int]] = None
        self._taken: List[Tuple[Step, Optional[int]]] = []
        self.drain_pending = False

    def now(self) -> Tuple[Observation, Situation]:
        seen = self.site.look()
        return seen, situation(seen, self.site.target, self.site.belongs_at_path())

    def go(self, rest: Rest, allowed: Tuple[Step, ...]) -> Optional[End]:
        """`None` when the goal is reached, else why not. Raises `StepRefused`, `StepFailed`, `TurnedBack`, `Gone`."""
        for _ in range(MOST_MOVES):
            seen, now = self.now()
            move = next_step(rest, now, self._is_verified(seen), allowed)
            ends_here = move.kind is MoveKind.ARRIVED or move.step is Step.SWEEP
            if ends_here and self._is_unconfirmed(seen, allowed):
                move = Move(MoveKind.ACT, Step.VERIFY)
            if move.kind is MoveKind.ARRIVED or self.drain_pending:
                return None
            if move.kind is MoveKind.BLOCKED:
                return _blocked(self.site, now, seen, move.step)
            if move.kind is MoveKind.WAIT:
                self._wait(now)
                continue
            assert move.step is not None
            taken = move.step, seen.masters[-1].pid if seen.masters else None
            if taken in self._taken:
                return _undone_meanwhile(self.site, now, seen, move.step)
            self.site.go_on()
            self._taken.append(taken)
            self._take(move.step, seen)
        return ended(Outcome.FAILED, "no_end", moves=MOST_MOVES)

    @property
    def has_swapped(self) -> bool:
        return any(step is Step.SWAP for step, _ in self._taken)

    @property
    def has_verified(self) -> bool:
        """Whether this visit has seen the new release do well."""
        return self._verified is not None

    def _is_verified(self, seen: Observation) -> bool:
        return len(seen.masters) == 2 and self._verified == (seen.masters[1].pid, seen.masters[1].start)

    def _is_unconfirmed(self, seen: Observation, allowed: Tuple[Step, ...]) -> bool:
        """Whether the target serves alone without ever having been verified, and this visit is one that goes forward."""
        site = self.site
        forward = site.target == site.record.target and Step.VERIFY in allowed
        return forward and is_unconfirmed(seen, site.record, site.own.serving)

    def _wait(self, before: Situation) -> None:
        """Until the phase is another one. An old master that finishes its last connections has the drain timeout."""
        retiring = before.phase is Phase.RETIRING
        deadline_s = self.site.options.drain_timeout_s if retiring else WAIT_S
        came, now = self.site.wait(
            lambda seen: situation(seen, self.site.target).phase is not before.phase, deadline_s, may_turn=True
        )
        if not came and retiring and self.site.options.cut:
            forward.cut(self.site, now)
        elif not came and retiring:
            self.drain_pending = True
        elif not came:
            raise StepFailed("still_dismissing", waited=WAIT_S)

    def _take(self, step: Step, seen: Observation) -> None:
        began_s = self.site.machine.monotonic_s()
        written = self.site.note(intent=step.value, rollout=self.site.record.rollout)
        if not written and step in FORWARD_STEPS:
            raise StepRefused("journal_unwritable", folder=self.site.own.folder)
        self.say(Reply(ReplyType.STEP_STARTED, step=step))
        end = End(Outcome.DONE)
        try:
            self._act(step, seen)
        except Exception as error:
            end = ended_badly(error)
            raise
        finally:
            took_s = self.site.machine.monotonic_s() - began_s
            self.site.note(result=step.value, outcome=end.outcome.value, reason=end.reason, message=end.message)
            self.say(
                Reply(
                    ReplyType.STEP_ENDED,
                    step=step,
                    outcome=end.outcome,
                    reason=end.reason,
                    message=end.message,
                    remedy=end.remedy,
                    took_s=took_s,
                )
            )

    def _act(self, step: Step, seen: Observation) -> None:
        if step is Step.VERIFY and len(seen.masters) == 1:
            confirm(self.site, seen)
        elif step is Step.VERIFY:
            verify(self.site, seen)
            self._verified = (seen.masters[1].pid, seen.masters[1].start)
        elif step is Step.RETIRE:
            self.drain_pending = not forward.retire(self.site, seen)
        else:
            ACTS[step](self.site, seen)


ACTS = {
    Step.SWAP: forward.swap,
    Step.LAUNCH: launch,
    Step.DRAIN: forward.drain,
    Step.REVIVE: back.revive,
    Step.DISMISS: back.dismiss,
    Step.RESTORE: back.restore,
    Step.SWEEP: back.sweep,
}


def ended_badly(error: Exception) -> End:
    """The end that an exception of a step means."""
    if isinstance(error, StepFailed):
        return End(Outcome.FAILED, error.reason, error.message, error.remedy)
    if isinstance(error, StepRefused):
        return End(Outcome.REFUSED, error.reason, error.message, error.remedy)
    if isinstance(error, TurnedBack):
        return End(Outcome.FAILED, error.reason, error.message, error.remedy)
    if isinstance(error, (OSError, Malformed)):
        return ended(Outcome.FAILED, "host_io", error=error)
    if isinstance(error, Gone):
        return ended(Outcome.FAILED, "process_gone", error=error)
    sys.stderr.write(traceback.format_exc())
    return ended(Outcome.FAILED, "bug", error="%s: %s" % (type(error).__name__, error))


def _went_back(site: Site, phase: Phase, cause: str) -> End:
    journal = site.own.folder + "/journal.jsonl"
    return ended(Outcome.FAILED, "went_back", phase=phase.value, cause=cause, journal=journal)


def _undone_meanwhile(site: Site, now: Situation, seen: Observation, step: Step) -> End:
    """A step that this visit has done and that is not done any more: something outside works against it."""
    cause = "this visit's %s is undone: the new master died, or somebody else acts here (a restart?); now %s" % (
        step.value,
        _who(seen),
    )
    return _went_back(site, now.phase, cause)


def _blocked(site: Site, now: Situation, seen: Observation, missing: Optional[Step]) -> End:
    """Why nothing can be done from here."""
    if now.phase is Phase.DOWN:
        command = start_command(seen, site.own, site.layout) or "as it is started at boot"
        if seen.orphans:
            return ended(Outcome.FAILED, "orphans_only", pids=" ".join(map(str, seen.orphans)), command=command)
        return ended(Outcome.FAILED, "down", command=command)
    if now.phase is Phase.FOREIGN:
        return ended(Outcome.FAILED, "foreign", who=_who(seen))
    return _went_back(site, now.phase, "this visit may not %s" % (missing.value if missing else "go on from there"))


def _who(seen: Observation) -> str:
    if seen.alone is not None:
        return "process %d serves without a master" % seen.alone
    return ", ".join("pid %d runs %s" % (one.pid, (one.sha256 or "?")[:12]) for one in seen.masters) or "none"


def act(site: Site, say: Say, request: Request, goal: Goal) -> End:
    """The request's walk and, where it must turn back, the walk to the nearest resting phase."""
    walk = Walk(site, say)
    try:
        end = walk.go(goal.rest, request.allowed) or _arrived(site, request, walk)
    except Exception as error:  # whatever it was, also a bug of ours: the host must not stay where it is
        end = ended_badly(error)
    if end.outcome is Outcome.DONE:
        return end
    return _to_rest(site, say, end, walk)


def _arrived(site: Site, request: Request, walk: Walk) -> End:
    if walk.drain_pending:
        waited_s = site.options.drain_timeout_s
        site.warn("drain_pending", waited=waited_s)
        return ended(Outcome.DONE, "drain_pending", waited=waited_s)
    if request.ask in (Ask.ROLLBACK, Ask.LEASE):
        put_right(site)
    elif request.ask is Ask.UPGRADE and not goal_is_final(request) and _lost_its_old(site):
        site.warn("restarted_meanwhile")
    state = ARRIVED_AT.get(request.ask)
    if goal_is_final(request) and state is None:
        state = State.COMMITTED
    why = LEASE_RAN_OUT % site.machine.utc() if request.ask is Ask.LEASE else request.why
    if state is not None and not site.wants(state, why):
        site.warn("record_unwritable", folder=site.own.folder)
    return End(Outcome.DONE)


def _lost_its_old(site: Site) -> bool:
    """Whether a host that should be held has one master only, which nobody has committed."""
    return site.record.state is State.BEGUN and len(site.look().masters) == 1


def goal_is_final(request: Request) -> bool:
    return request.goal is not None and request.goal.rest is Rest.FINAL


def _to_rest(site: Site, say: Say, end: End, walk: Walk) -> End:
    """A visit that ended badly leaves the host in OLD or, from `drain` on, in TRIAL: nowhere in between.

    Going forward, home is what the elder master runs; a walk back that was interrupted half-way is finished. A file that
    somebody took away or replaced after this visit's swap is put right, too: the next start of nginx would take it.
    """
    seen = site.look()
    now = situation(seen, site.target, site.belongs_at_path())
    astray = walk.has_swapped and now.phase is Phase.OLD and seen.path_sha256 != site.record.before_file
    if not seen.masters and walk.has_swapped and not walk.has_verified:
        return _file_before(site, end)
    if end.reason == "drain_unseen" or not seen.masters or now.phase is Phase.FOREIGN:
        return end
    if now.phase in RESTING and not astray:
        return end
    home = seen.masters[0].sha256 or site.record.before_process
    if now.phase is Phase.NEW and now.path_right:
        return end
    calm = site._replace(target=home, go_on=lambda: None)
    try:
        worse = Walk(calm, say).go(Rest.FINAL, GOING_BACK)
    except Exception as error:
        worse = ended_badly(error)
    if worse is None:
        put_right(calm)
        return end
    return ended(Outcome.FAILED, "failed_to_go_back", worse=worse.message, first=end.message, remedy=worse.remedy)


def _file_before(site: Site, end: End) -> End:
    """Nobody is there to be taken back; but whoever starts nginx, or boots the host, gets no release that nobody verified."""
    # Without a master only what was written down before the swap says where its binary lies.
    observer = Observer(site.machine, site.own.layout or site.layout)
    calm = site._replace(target=site.record.before_process, observer=observer)
    try:
        back.restore(calm, calm.look())
    except (StepRefused, OSError, Malformed) as error:
        worse = ended_badly(error)
        return ended(Outcome.FAILED, "failed_to_go_back", worse=worse.message, first=end.message, remedy=worse.remedy)
    return end


def went_back(request: Request, record: Optional[Record], phase: Phase, folder: str) -> Optional[End]:
    """A host behind where its last visit left it went back by itself: only a new upgrade moves it forward again."""
    if request.ask not in (Ask.UPGRADE, Ask.BAKE, Ask.COMMIT):
        return None
    undone = record is not None and record.rollout == request.rollout and record.state is State.ROLLED_BACK
    if not undone and not is_behind(phase, request.left_at):
        return None
    cause = "it was left %s" % (request.left_at.value if request.left_at else "?")
    if undone and record is not None:
        cause = record.why or "it was rolled back"
    journal = folder + "/journal.jsonl"
    return ended(Outcome.FAILED, "went_back", phase=phase.value, cause=cause, journal=journal)


def bake(site: Site, seen: Observation) -> End:
    """The bake's look. Changes nothing."""
    now = situation(seen, site.target)
    if now.phase not in WATCHED:
        return _blocked(site, now, seen, None)
    try:
        look_after(site, seen)
    except StepRefused as error:
        return ended_badly(error)
    return End(Outcome.DONE)
