"""`verify`: the evidence that the new master serves well, before the old one is drained.

Until `drain` the old workers serve on, but from `launch` on about half of the new connections meet the new release. So
`verify` probes first, then waits for the settle time, and gives up at the first bad sign. The evidence: as many workers
as a master starts here now, the same ones for the settle time; their answers to the probes; the error log, compared with
what the running release writes (`log_evidence`); and every listening socket of the old master held by the new workers
(docs/nginx-facts.md, sections 7 and 8).
"""

from contextlib import suppress
from typing import FrozenSet

from fleet.onhost.nginx.log.baseline import Judgement
from fleet.onhost.nginx.log_files import moved_away
from fleet.onhost.observation import Master, Observation
from fleet.onhost.steps.context import StepContext, StepFailed, accepting, find, identities, pair
from fleet.onhost.steps.log_evidence import failure_of, judgement, must_be_clean, remember_said, tell
from fleet.onhost.steps.probe_verdict import must_answer
from fleet.onhost.system.file_lock import Busy

WORKERS_SEEN_S = 5.0
SETTLE_POLL_S = 0.1
EXIT_LOGGED_S = 1.0
MOST_SETTLES = 4  # A worker may exit while the new release settles, where the running release's workers do so as often.


def verify(context: StepContext, seen: Observation) -> None:
    """Verify the new master beside the old one. Raises `StepFailed` at the first bad sign."""
    old, new = pair(seen)
    seen = _judge(context, seen, new, _wanted(context, old))
    _must_cover(context, seen, old, new)
    say_doubled(context, seen, old)
    _remember(context, seen, new)
    if not context.options.probes:
        context.warn("no_probes")


def confirm(context: StepContext, seen: Observation) -> None:
    """Verify a master that serves alone: the host was booted with the new release, or the old master died before the
    verdict. Raises `StepFailed` at the first bad sign.
    """
    new = seen.masters[0]
    _remember(context, _judge(context, seen, new, wanted=1), new)


def _judge(context: StepContext, seen: Observation, new: Master, wanted: int) -> Observation:
    """Wait until the master has at least `wanted` workers that came, answered and stayed. Returns the last look at it.

    Raises `StepFailed`.
    """
    for again in range(MOST_SETTLES):
        if again:  # A line for the controller, too: it waits for one settle time, not for several.
            context.warn("settles_anew")
            seen = context.look()
        exits = must_be_clean(context, seen, new).known_exits
        workers = _gathered(context, new, wanted)
        must_answer(context, workers)
        if _stay(context, new, workers, exits):
            now = context.look()
            remember_said(context, tell(context, must_be_clean(context, now, new)))
            return now
    raise StepFailed("workers_changed")


def _gathered(context: StepContext, new: Master, wanted: int) -> FrozenSet[int]:
    """The pids of the new master's workers, once there are enough. Raises `StepFailed`."""

    def over(look: Observation) -> bool:
        found = judgement(context, look, new)
        return len(accepting(look, new)) >= wanted or (found is not None and bool(found.counted))

    now = context.wait(over, WORKERS_SEEN_S)[1]
    must_be_clean(context, now, new)
    if len(accepting(now, new)) < wanted:
        raise _too_few(context, now, new, wanted)
    return _pids(now, new)


def _remember(context: StepContext, seen: Observation, new: Master) -> None:
    workers = identities(accepting(seen, new))
    context.remember(lambda serving: serving._replace(verified=workers, verified_master=(new.pid, new.start)))


def workers_before(context: StepContext, old: Master) -> int:
    """How many workers the old master had when the new one was launched: a HUP since has only added to them."""
    serving = context.own.serving
    known = serving.workers if serving.master == (old.pid, old.start) else 0
    return known or max(1, len(old.accepting))


def _wanted(context: StepContext, old: Master) -> int:
    """How many workers the new master must have: as many as it starts on this machine, else as many as the old one had."""
    serving = context.own.serving
    known = serving.wanted if serving.master == (old.pid, old.start) else 0
    return known or workers_before(context, old)


def say_doubled(context: StepContext, seen: Observation, old: Master) -> bool:
    """Whether a HUP from outside has added workers to the old master; if so, warn of it."""
    has, wanted = len(accepting(seen, old)), workers_before(context, old)
    if has > wanted:
        context.warn("workers_doubled", pid=old.pid, has=has, wanted=wanted)
    return has > wanted


def _must_live(context: StepContext, seen: Observation, new: Master, not_running: str = "Tt") -> Master:
    """The new master as it is now. Raises `StepFailed` if it is gone, or stopped: then its workers serve on, but it takes
    no signal.
    """
    now, process = find(seen, new.pid, new.start), context.machine.process(new.pid)
    if now is None or process is None:
        raise StepFailed("new_master_died", pid=new.pid)
    if process.state in not_running:
        raise StepFailed("new_master_hangs", pid=new.pid, state=process.state)
    return now


def _too_few(context: StepContext, seen: Observation, new: Master, wanted: int) -> StepFailed:
    now = _must_live(context, seen, new, not_running="TtD")
    hung = sum(1 for worker in now.workers if not worker.ready)
    if hung:
        return StepFailed("workers_hang", count=hung, waited=WORKERS_SEEN_S)
    return StepFailed("workers_missing", has=len(now.accepting), waited=WORKERS_SEEN_S, wanted=wanted)


def _pids(seen: Observation, new: Master) -> FrozenSet[int]:
    return frozenset(worker.pid for worker in accepting(seen, new))


def _stay(context: StepContext, new: Master, workers: FrozenSet[int], exits: int) -> bool:
    """Whether these very workers are there for the settle time. False when there is one more exit than `exits` that is not
    counted, because the running release's workers exit as often. Raises `StepFailed`.
    """
    until = context.machine.monotonic_s() + context.options.settle_s
    while True:
        context.go_on()
        now = context.look()
        must_be_clean(context, now, new)
        _must_live(context, now, new)
        if _pids(now, new) != workers:
            if _known_exit(context, new, exits):
                return False
            raise StepFailed("workers_changed")
        if context.machine.monotonic_s() >= until:
            break
        context.machine.pause(SETTLE_POLL_S)
    must_answer(context, workers)
    return True


def _known_exit(context: StepContext, new: Master, before: int) -> bool:
    """Whether the log soon shows one more exit that is not counted. nginx logs an exit after the worker is gone.

    Raises `StepFailed` for an exit that counts.
    """

    def over(look: Observation) -> bool:
        found = judgement(context, look, new)
        return found is None or bool(found.counted) or found.known_exits > before

    now = context.wait(over, EXIT_LOGGED_S)[1]
    return must_be_clean(context, now, new).known_exits > before


def _must_cover(context: StepContext, seen: Observation, old: Master, new: Master) -> None:
    """All new workers together hold every listening socket of the old master. Raises `StepFailed`.

    Not each of them: some builds close, in each worker, the sockets of the other workers.
    """
    now = find(seen, old.pid, old.start)
    held = {inode for pid in _pids(seen, new) for inode in context.machine.socket_inodes(pid)}
    missing = set(now.listeners if now else ()) - held
    if missing:
        every = context.machine.listeners(old.pid)
        names = sorted("%s %s" % (every[one].kind, every[one].address) for one in missing if one in every)
        raise StepFailed("listeners_uncovered", listeners=", ".join(names))


def look_after(context: StepContext, seen: Observation) -> None:
    """The bake's look: the release still answers and its log is clean. Changes nothing. Raises `StepFailed`."""
    new = seen.masters[-1]
    workers = frozenset(worker.pid for worker in new.accepting)
    if len(seen.masters) == 2:
        _must_cover(context, seen, seen.masters[0], new)
        _look_at_the_old(context, seen.masters[0])
    found = judgement(context, seen, new)
    if found is None:
        context.warn(
            "no_error_log", where="nginx wrote it at launch" if context.own.serving.log_path else "as at launch"
        )
    elif found.counted:
        raise failure_of(found.counted, context.own.serving.baseline)
    else:
        _tell(context, found)
    _must_live(context, seen, new)
    must_answer(context, workers)


def _tell(context: StepContext, found: Judgement) -> None:
    """As verify tells it. A look holds no lock, so it takes the lock to note what was said; a visit at work comes first."""
    kinds = tell(context, found)
    if kinds:
        with suppress(Busy, OSError), context.own.lock(0.0):
            remember_said(context, kinds)


def _look_at_the_old(context: StepContext, old: Master) -> None:
    """Warn of what a reload or a log rotation from outside did to the held old master; leave it as it is."""
    if old.accepting:
        context.warn("old_revived", pid=old.pid)
    moved = moved_away(context.machine, context.own.serving.logs, (old.pid,))
    if moved and context.own.serving.master == (old.pid, old.start):
        context.warn("log_rotated", paths=", ".join(moved), pid=old.pid)
