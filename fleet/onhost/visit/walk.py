"""The walk of one visit: look, ask for the next step, take it, until the goal is reached or the request may do no more.

The walk asks `next_step` after every look, so that upgrade, resume, retry and rollback are this one loop. Where a visit
that ended badly leaves the host is `procedure.retreat`'s decision: before `drain` as it was, from `drain` on held.
"""

from contextlib import suppress
from typing import List, Optional, Tuple

from fleet.onhost.nginx.observe import Observer
from fleet.onhost.observation import Observation
from fleet.onhost.procedure import (
    GOING_BACK,
    WATCHED,
    MoveKind,
    Retreat,
    Situation,
    Unfinished,
    elder_release,
    has_lost_its_old,
    is_behind,
    is_verified,
    next_step,
    retreat,
    situation,
    state_reached,
)
from fleet.onhost.protocol import Ask, Goal, Outcome, Phase, Record, Request, Rest, State, Step
from fleet.onhost.state import retirement, watcher
from fleet.onhost.steps import back, forward
from fleet.onhost.steps.after_rollback import put_right
from fleet.onhost.steps.context import StepContext, StepError, StepFailed, WinchPending
from fleet.onhost.steps.launch import launch
from fleet.onhost.steps.start_command import start_command
from fleet.onhost.steps.verify import confirm, look_after, verify
from fleet.onhost.text import counted
from fleet.onhost.visit.end import End, ended, ended_by, failed_to_go_back, went_back
from fleet.onhost.visit.request import Visit

MOST_MOVES = 40
WAIT_S = 20.0
LEASE_RAN_OUT = "its lease ran out, neither renewed nor committed by %s"

ACTS = {
    Step.SWAP: forward.swap,
    Step.LAUNCH: launch,
    Step.DRAIN: forward.drain,
    Step.REVIVE: back.revive,
    Step.DISMISS: back.dismiss,
    Step.RESTORE: back.restore,
    Step.SWEEP: back.sweep,
}


class Walk:
    """One visit's way from any phase to the goal. It remembers what only this visit knows."""

    def __init__(self, visit: Visit, context: StepContext) -> None:
        self.visit = visit
        self.context = context
        self._verified: Optional[Tuple[int, int]] = None
        self._taken: List[Tuple[Step, Optional[int]]] = []
        self._has_swapped = False
        self._drain_pending = False
        self._winch_pending = False
        self.last_look: Optional[Observation] = None

    def go(self, rest: Rest, allowed: Tuple[Step, ...]) -> Optional[End]:
        """`None` when the goal is reached, else how the walk ended. Raises `StepError`, `Gone`, OSError."""
        for _ in range(MOST_MOVES):
            seen = self.last_look = self.context.look()
            now = self._situation(seen)
            move = next_step(rest, now, allowed)
            if move.kind is MoveKind.ARRIVED:
                return None
            if move.kind is MoveKind.PENDING:
                return self._pending()
            if move.kind is MoveKind.UNDONE:
                return _undone(self.context, now, seen, move.step)
            if move.kind is MoveKind.BLOCKED:
                return _blocked(self.context, now, seen, move.step)
            if move.kind is MoveKind.WAIT:
                self._wait(now)
                continue
            assert move.step is not None
            self.context.go_on()
            end = self._take(move.step, seen)
            if end.outcome is not Outcome.DONE:
                return end
        return ended(Outcome.FAILED, "no_end", moves=MOST_MOVES)

    def unfinished(self, seen: Observation) -> Unfinished:
        """What this walk has done so far and in which state the host is, for `procedure.retreat`."""
        now = self._situation(seen)
        return Unfinished(
            phase=now.phase,
            path_right=now.path_right,
            has_master=bool(seen.masters),
            file_before=seen.path_sha256 == self.context.record.before_file,
            has_swapped=self._has_swapped,
            has_verified=self._verified is not None,
            winch_pending=self._winch_pending,
        )

    def _situation(self, seen: Observation) -> Situation:
        newest = seen.masters[-1].pid if seen.masters else None
        return situation(seen, self.context.target, self.context.belongs_at_path(seen))._replace(
            verified=self._is_verified(seen),
            drain_pending=self._drain_pending,
            taken=tuple(step for step, pid in self._taken if pid == newest),
        )

    def _is_verified(self, seen: Observation) -> bool:
        context = self.context
        # What earlier visits verified is read from the disk, and counts only for a master that serves alone.
        earlier = context.own.serving.verified_master if len(seen.masters) == 1 else None
        return is_verified(seen, context.record, context.target, self._verified, earlier)

    def _wait(self, before: Situation) -> None:
        """Wait until the phase changes. In RETIRING, the old master has until the drain timeout. Raises `StepFailed`."""
        retiring = before.phase is Phase.RETIRING
        deadline_s = self.context.options.drain_timeout_s if retiring else WAIT_S
        came, now = self.context.wait(
            lambda seen: situation(seen, self.context.target).phase is not before.phase, deadline_s, may_turn=True
        )
        if not came and retiring and self.context.options.cut:
            forward.cut(self.context, now)
        elif not came and retiring:
            self._drain_pending = True
        elif not came:
            raise StepFailed("still_dismissing", waited=WAIT_S)

    def _pending(self) -> End:
        if _leaves_to_host(self.visit.request):
            return self._leave_to_host()
        waited_s = self.context.options.drain_timeout_s
        self.context.warn("drain_pending", waited=waited_s)
        return ended(Outcome.DONE, "drain_pending", waited=waited_s)

    def _leave_to_host(self) -> End:
        """Have the watcher finish this commit once the old workers are gone. Raises `StepFailed`, OSError."""
        context, within_s = self.context, self.visit.request.options.retire_within_s
        workers = context.look().masters[0].draining
        retirement.write(context.own, self.visit.request, workers)
        try:
            for warning in watcher.ensure_watched(context.own):  # It would end with the login.
                raise watcher.Unwatched(warning.message)
        except watcher.Unwatched as error:
            retirement.end(context.own)
            raise StepFailed("retirement_unwatched", error=error)
        context.instance.note(retirement="left_to_host", rollout=context.record.rollout, within_s=within_s)
        return ended(Outcome.DONE, "left_to_host", old=counted(len(workers), "old worker"), within=within_s)

    def _take(self, step: Step, seen: Observation) -> End:
        self._taken.append((step, seen.masters[-1].pid if seen.masters else None))

        def act() -> End:
            try:
                self._act(step, seen)
            except Exception as error:  # Also a bug in fleet: the controller and the journal must learn of it.
                self._winch_pending |= isinstance(error, WinchPending)
                return ended_by(error)
            return End(Outcome.DONE)

        end = self.visit.take(step, act)
        self._has_swapped |= step is Step.SWAP and end.outcome is not Outcome.REFUSED  # Refused, it changed nothing.
        return end

    def _act(self, step: Step, seen: Observation) -> None:
        if step is Step.VERIFY:
            check = confirm if len(seen.masters) == 1 else verify
            check(self.context, seen)
            self._verified = (seen.masters[-1].pid, seen.masters[-1].start)
        elif step is Step.RETIRE:
            self._drain_pending = not forward.retire(self.context, seen)
        else:
            ACTS[step](self.context, seen)


def _leaves_to_host(request: Request) -> bool:
    """Whether the request is a commit that waits for no old connection: it leaves the rest to the host."""
    return request.ask is Ask.COMMIT and request.options.retire_within_s > 0.0


def walk(visit: Visit, record: Record, goal: Goal) -> End:
    """Walk to the goal; if that ends badly, come to rest. The host's syslog gets the request and the end."""
    request, machine = visit.request, visit.instance.machine
    what = "%s to %s, rollout %s, by %s" % (request.ask.value, goal.target[:12], request.rollout, request.operator)
    machine.syslog(what + ": begun")
    context = visit.context(record, goal.target)
    if _leaves_to_host(request):
        context = context._replace(options=request.options._replace(drain_timeout_s=0.0, cut=False))
    end = _walked(visit, context, goal)
    machine.syslog("%s: %s %s" % (what, end.outcome.value, end.message))
    return end


def _walked(visit: Visit, context: StepContext, goal: Goal) -> End:
    way = Walk(visit, context)
    try:
        end = way.go(goal.rest, visit.request.allowed) or _arrived(context, visit.request, way.last_look)
    except Exception as error:  # Also a bug in fleet: the host must not stay where it is.
        end = ended_by(error)
    is_done = end.outcome is Outcome.DONE
    end = end if is_done else _to_rest(way, end)
    if end.reason != "path_changed":
        _say_left(context, way.last_look if is_done else None)
    return end


def _say_left(context: StepContext, last_look: Optional[Observation]) -> None:
    """Warn of a file at the path that is not fleet's to replace, and that does not run."""
    with suppress(OSError):
        seen = last_look or context.look()
        if context.must_leave(seen) and seen.path_sha256 not in [master.sha256 for master in seen.masters]:
            context.warn("path_left", path=seen.path, file=context.file_words(seen))


def _arrived(context: StepContext, request: Request, last_look: Optional[Observation]) -> End:
    """Finish a visit that reached its goal: put things right, warn, and write the state into the record.

    Nothing was done since the last look, by which the goal is reached.
    """
    state = state_reached(request.ask, request.goal)
    if state is State.ROLLED_BACK:
        put_right(context, last_look)
    elif request.ask is Ask.UPGRADE and state is None and has_lost_its_old(last_look or context.look(), context.record):
        context.warn("restarted_meanwhile")
    why = LEASE_RAN_OUT % context.machine.utc() if request.ask is Ask.LEASE else request.why
    if state is not None and not context.wants(state, why):
        context.warn("record_unwritable", folder=context.own.folder)
    return End(Outcome.DONE)


def _to_rest(way: Walk, end: End) -> End:
    """Bring the host to rest. Returns the visit's end, or another end if the host could not be brought to rest."""
    seen = way.context.look()
    left = way.unfinished(seen)
    what = retreat(left)
    if what is Retreat.STAY:
        return end
    if what is Retreat.RESTORE_FILE:
        return _restore_file(way.context, end)
    calm = way.context._replace(target=elder_release(seen, way.context.record), go_on=lambda: None)
    if left.has_swapped:  # What replaced the file of this very visit has spoilt its launch; the store keeps a copy.
        calm = calm._replace(options=calm.options._replace(allow=calm.options.allow + ("path_changed",)))
    way_back = Walk(way.visit, calm)
    try:
        worse = way_back.go(Rest.FINAL, GOING_BACK)
    except Exception as error:  # As above.
        worse = ended_by(error)
    if worse is not None and worse.outcome is not Outcome.DONE:
        return failed_to_go_back(_serving(calm), worse, end)
    put_right(calm, way_back.last_look)
    return end


def _restore_file(context: StepContext, end: End) -> End:
    """As `_to_rest`, on a host without a master."""
    # Without a master, only the layout that was stored before the swap tells where the binary is.
    layout = context.own.layout or context.instance.layout
    instance = context.instance._replace(observer=Observer(context.machine, layout))
    calm = context._replace(instance=instance, target=context.record.before_process)
    try:
        back.restore(calm, calm.look())
    except Exception as error:  # As above.
        return failed_to_go_back(_serving(calm), ended_by(error), end)
    return end


def _serving(context: StepContext) -> str:
    """Which masters accept new connections now, in words. Never raises: it is part of a message about a failure."""
    try:
        seen = context.look()
    except OSError as error:
        return "Which master serves now could not be seen (%s)" % error
    serving = ["pid %d (%s)" % (one.pid, (one.sha256 or "?")[:12]) for one in seen.masters if one.accepting]
    if serving:
        return "New connections are served by master %s" % " and ".join(serving)
    return "No master accepts new connections now"


def _undone(context: StepContext, now: Situation, seen: Observation, step: Optional[Step]) -> End:
    cause = "the step %s was undone from outside (a restart, or the new master died); masters now: %s" % (
        step.value if step else "?",
        _masters_in_words(seen),
    )
    return went_back(now.phase, cause, context.own.folder)


def _blocked(context: StepContext, now: Situation, seen: Observation, missing: Optional[Step]) -> End:
    """The end where the table allows no step."""
    if now.phase is Phase.DOWN:
        known = start_command(context.instance, seen)
        command = "`%s`" % known if known else "as at boot, such as `systemctl start nginx`"
        if seen.orphans:
            return ended(Outcome.FAILED, "orphans_only", pids=" ".join(map(str, seen.orphans)), command=command)
        return ended(Outcome.FAILED, "down", command=command)
    if now.phase is Phase.FOREIGN:
        return ended(Outcome.FAILED, "foreign", why=_masters_in_words(seen))
    cause = "this request does not include the step %s" % (missing.value if missing else "that leads on")
    return went_back(now.phase, cause, context.own.folder)


def _masters_in_words(seen: Observation) -> str:
    if seen.alone is not None:
        return "process %d serves without a master" % seen.alone
    return ", ".join("pid %d runs %s" % (one.pid, (one.sha256 or "?")[:12]) for one in seen.masters) or "none"


def behind(request: Request, record: Optional[Record], phase: Phase, folder: str) -> Optional[End]:
    """The end for a host that went back since its last visit: only a new upgrade moves it forward. Else `None`."""
    if request.ask not in (Ask.UPGRADE, Ask.BAKE, Ask.COMMIT):
        return None
    undone = record is not None and record.rollout == request.rollout and record.state is State.ROLLED_BACK
    if not undone and not is_behind(phase, request.left_at):
        return None
    cause = "not recorded; fleet left it %s" % (request.left_at.value if request.left_at else "?")
    if undone and record is not None:
        cause = record.why or "it was rolled back"
    return went_back(phase, cause, folder)


def bake(context: StepContext, seen: Observation) -> End:
    """The bake's look at the release that serves. Changes nothing."""
    now = situation(seen, context.target)
    if now.phase not in WATCHED:
        return _blocked(context, now, seen, None)
    try:
        look_after(context, seen)
    except StepError as error:
        return ended_by(error)
    return End(Outcome.DONE)
