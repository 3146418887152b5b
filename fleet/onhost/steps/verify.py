"""Is the new master good enough to be left alone with the users?

Before `drain` nothing costs capacity, but from `launch` on about half of the new connections meet the new release. So:
probe first, settle after, and give up at the first bad sign. Signs are the workers (as many as the old master's, the
same ones for the settle time), their answers to the probes, the log, and every listening socket of the old master in
the hands of the new workers (docs/nginx-facts.md, sections 7 and 8).
"""

from typing import FrozenSet, Optional, Tuple

from fleet.onhost.nginx.error_log import CRASHED, ENDED, Mark, bad_lines, lines_since, mark
from fleet.onhost.nginx.log_files import moved_away
from fleet.onhost.nginx.probe import ask
from fleet.onhost.protocol import Master, Observation
from fleet.onhost.steps.context import StepContext, StepFailed, accepting, find, identities, pair

WORKERS_SEEN_S = 5.0
SETTLE_POLL_S = 0.05
MOST_QUOTED = 3
FLOOD = 10  # crashes since launch; a worker that dies at its start is started thousands of times in a second


def verify(context: StepContext, seen: Observation) -> None:
    """The new master is verified, for this visit. Raises `StepFailed` at the first bad sign."""
    old, new = pair(seen)
    wanted = workers_before(context, old)
    now = context.wait(
        lambda look: len(accepting(look, new)) >= wanted or bool(_bad(context, look, new)), WORKERS_SEEN_S
    )[1]
    _must_be_clean(context, now, new)
    if len(accepting(now, new)) < wanted:
        raise _too_few(context, now, new, wanted)
    workers = _pids(now, new)
    probe(context, workers)
    _settle(context, new, workers)
    seen = context.look()
    _must_cover(context, seen, old, new)
    say_doubled(context, seen, old)
    _remember(context, seen, new)
    if not context.options.probes:
        context.warn("no_probes")


def confirm(context: StepContext, seen: Observation) -> None:
    """The one master, which no visit has verified, is verified now: the host was booted with the new release, or its
    old master died before the verdict. Raises `StepFailed` at the first bad sign.
    """
    new = seen.masters[0]
    now = context.wait(lambda look: bool(accepting(look, new)) or bool(_bad(context, look, new)), WORKERS_SEEN_S)[1]
    _must_be_clean(context, now, new)
    if not accepting(now, new):
        raise _too_few(context, now, new, 1)
    workers = _pids(now, new)
    probe(context, workers)
    _settle(context, new, workers)
    _remember(context, context.look(), new)


def _remember(context: StepContext, seen: Observation, new: Master) -> None:
    workers = identities(accepting(seen, new))
    context.remember(lambda serving: serving._replace(verified=workers, verified_master=(new.pid, new.start)))


def workers_before(context: StepContext, old: Master) -> int:
    """How many workers the old master had when the new one was launched: a HUP since has only added to them."""
    serving = context.own.serving
    known = serving.workers if serving.master == (old.pid, old.start) else 0
    return known or max(1, len(old.accepting))


def say_doubled(context: StepContext, seen: Observation, old: Master) -> bool:
    """Whether somebody's HUP has added workers to the old master; that is said."""
    has, wanted = len(accepting(seen, old)), workers_before(context, old)
    if has > wanted:
        context.warn("workers_doubled", pid=old.pid, has=has, wanted=wanted)
    return has > wanted


def _must_live(context: StepContext, seen: Observation, new: Master, not_running: str = "Tt") -> Master:
    """The new master as it is now. Its workers serve on when it is stopped, but it hears nothing. Raises `StepFailed`."""
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


def probe(context: StepContext, workers: FrozenSet[int]) -> None:
    """Every probe is answered rightly by one of these workers. Raises `StepFailed`."""
    for one in context.options.probes:
        answer = ask(context.machine, one, workers)
        if answer.by is None:
            raise StepFailed("workers_silent", trouble=answer.trouble)
        if answer.trouble:
            raise StepFailed("probe_failed", trouble=answer.trouble)


def _settle(context: StepContext, new: Master, workers: FrozenSet[int]) -> None:
    until = context.machine.monotonic_s() + context.options.settle_s
    while True:
        context.go_on()
        now = context.look()
        _must_be_clean(context, now, new)
        _must_live(context, now, new)
        if _pids(now, new) != workers:
            raise StepFailed("workers_changed")
        if context.machine.monotonic_s() >= until:
            break
        context.machine.pause(SETTLE_POLL_S)
    probe(context, workers)
    _must_be_clean(context, context.look(), new)


def _must_be_clean(context: StepContext, seen: Observation, new: Master) -> None:
    lines = _bad(context, seen, new)
    if lines:
        raise _speaks_against(lines)


def _speaks_against(lines: Tuple[str, ...]) -> StepFailed:
    """What the lines say of the release: that its workers crash, that they give up, or something of its own."""
    crashed = [line for line in lines if CRASHED in line]
    ended = [line for line in lines if ENDED in line]
    if crashed:
        return StepFailed("workers_crash", lines=" / ".join(crashed[:MOST_QUOTED]))
    if ended:
        return StepFailed("workers_fatal", lines=" / ".join(ended[:MOST_QUOTED]))
    return StepFailed("log_bad", lines=" / ".join(lines[:MOST_QUOTED]))


def floods(context: StepContext, seen: Observation, new: Master) -> bool:
    """Whether its workers crash as fast as it starts them: it must end at once, or its log fills the disk."""
    return sum(CRASHED in line for line in _bad(context, seen, new)) >= FLOOD


def _bad(context: StepContext, seen: Observation, new: Master) -> Tuple[str, ...]:
    return evidence(context, seen, new) or ()


def evidence(context: StepContext, seen: Observation, new: Master) -> Optional[Tuple[str, ...]]:
    """The bad log lines of this master and its workers since `launch`, or `None` when there is no log to read."""
    serving = context.own.serving
    start = Mark(serving.log_path, serving.log_inode, serving.log_offset)
    lines = lines_since(context.machine, start, [master.pid for master in seen.masters])
    if lines is None:
        return None
    now = find(seen, new.pid, new.start)
    return bad_lines(lines, [new.pid] + [worker.pid for worker in (now or new).workers])


def judge_afresh(context: StepContext, seen: Observation) -> None:
    """What the log had against the new release before an operator said to go on is said once more and held against it
    no longer: he was told of it, and what made the workers die then (a person, the kernel) need not be the release.
    """
    new = seen.masters[-1] if seen.masters else None
    if new is None or new.sha256 != context.target:
        return
    lines = evidence(context, seen, new)
    if not lines:
        return
    context.warn("log_passed_over", lines=" / ".join(lines[:MOST_QUOTED]))
    now = mark(context.machine, new.pid)
    context.remember(lambda serving: serving._replace(log_path=now.path, log_inode=now.inode, log_offset=now.offset))


def _must_cover(context: StepContext, seen: Observation, old: Master, new: Master) -> None:
    """The union over the new workers counts: some builds close, in each worker, the sockets that are not its own."""
    now = find(seen, old.pid, old.start)
    held = {inode for pid in _pids(seen, new) for inode in context.machine.socket_inodes(pid)}
    missing = set(now.listeners if now else ()) - held
    if missing:
        every = context.machine.listeners(old.pid)
        names = sorted("%s %s" % (every[one].kind, every[one].address) for one in missing if one in every)
        raise StepFailed("listeners_uncovered", listeners=", ".join(names))


def look_after(context: StepContext, seen: Observation) -> None:
    """The bake's look: the serving release still answers and its log is clean. Raises `StepFailed`; changes nothing."""
    new = seen.masters[-1]
    workers = frozenset(worker.pid for worker in new.accepting)
    if len(seen.masters) == 2:
        _must_cover(context, seen, seen.masters[0], new)
        _look_at_the_old(context, seen.masters[0])
    lines = evidence(context, seen, new)
    if lines is None:
        context.warn(
            "no_error_log", where="nginx wrote it at launch" if context.own.serving.log_path else "as at launch"
        )
    elif lines:
        raise _speaks_against(lines)
    _must_live(context, seen, new)
    probe(context, workers)


def _look_at_the_old(context: StepContext, old: Master) -> None:
    """What somebody's reload or log rotation did to the held old master: said, and left as it is."""
    if old.accepting:
        context.warn("old_revived", pid=old.pid)
    moved = moved_away(context.machine, context.own.serving.logs, (old.pid,))
    if moved and context.own.serving.master == (old.pid, old.start):
        context.warn("log_rotated", paths=", ".join(moved), pid=old.pid)
