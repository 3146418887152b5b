"""`verify`: the evidence that the new master serves well, before the old one is drained.

Until `drain` the old workers serve on, but from `launch` on about half of the new connections meet the new release. So
`verify` probes first, then waits for the settle time, and gives up at the first bad sign. The evidence: as many workers
as a master starts here now, the same ones for the settle time; their answers to the probes; the error log; and every
listening socket of the old master held by the new workers (docs/nginx-facts.md, sections 7 and 8).
"""

from typing import FrozenSet, Optional, Sequence, Tuple

from fleet.onhost.nginx.error_log import CRASHED, ENDED, Mark, bad_lines, lines_since, mark
from fleet.onhost.nginx.log_files import moved_away
from fleet.onhost.observation import Master, Observation
from fleet.onhost.steps.context import StepContext, StepFailed, accepting, find, identities, pair
from fleet.onhost.steps.probe_verdict import must_answer
from fleet.onhost.text import listed

WORKERS_SEEN_S = 5.0
SETTLE_POLL_S = 0.05
MOST_QUOTED = 3
FLOOD = 10  # Crashes since launch. nginx restarts a worker that dies at its start thousands of times in a second.


def verify(context: StepContext, seen: Observation) -> None:
    """Verify the new master beside the old one. Raises `StepFailed` at the first bad sign."""
    old, new = pair(seen)
    seen = _judge(context, new, _wanted(context, old))
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
    _remember(context, _judge(context, new, wanted=1), new)


def _judge(context: StepContext, new: Master, wanted: int) -> Observation:
    """Wait until the master has at least `wanted` workers that came, answered and stayed. Returns the last look at it.

    Raises `StepFailed`.
    """

    def over(look: Observation) -> bool:
        return len(accepting(look, new)) >= wanted or bool(_bad(context, look, new))

    now = context.wait(over, WORKERS_SEEN_S)[1]
    _must_be_clean(context, now, new)
    if len(accepting(now, new)) < wanted:
        raise _too_few(context, now, new, wanted)
    workers = _pids(now, new)
    must_answer(context, workers)
    _settle(context, new, workers)
    return context.look()


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
    must_answer(context, workers)
    _must_be_clean(context, context.look(), new)


def _must_be_clean(context: StepContext, seen: Observation, new: Master) -> None:
    lines = _bad(context, seen, new)
    if lines:
        raise _speaks_against(lines)


def _speaks_against(lines: Tuple[str, ...]) -> StepFailed:
    """The failure that the log lines show: its workers crash, they exit with a fatal code, or another bad line."""
    crashed = [line for line in lines if CRASHED in line]
    ended = [line for line in lines if ENDED in line]
    if crashed:
        return StepFailed("workers_crash", lines=_quoted(crashed))
    if ended:
        return StepFailed("workers_fatal", lines=_quoted(ended))
    return StepFailed("log_bad", lines=_quoted(lines))


def _quoted(lines: Sequence[str]) -> str:
    return listed(lines, MOST_QUOTED, between=" / ")


def floods(context: StepContext, seen: Observation, new: Master) -> bool:
    """Whether its workers crash as fast as it starts them. Then it must end at once, or its log fills the disk."""
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
    """Warn once more of what the log has against the new release, and judge only later lines from now on.

    For a resume: fleet has shown those lines to the operator, and their cause (a person, the kernel) need not be the release.
    """
    new = seen.masters[-1] if seen.masters else None
    if new is None or new.sha256 != context.target:
        return
    lines = evidence(context, seen, new)
    if not lines:
        return
    context.warn("log_passed_over", lines=_quoted(lines))
    now = mark(context.machine, new.pid)
    context.remember(lambda serving: serving._replace(log_path=now.path, log_inode=now.inode, log_offset=now.offset))


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
    lines = evidence(context, seen, new)
    if lines is None:
        context.warn(
            "no_error_log", where="nginx wrote it at launch" if context.own.serving.log_path else "as at launch"
        )
    elif lines:
        raise _speaks_against(lines)
    _must_live(context, seen, new)
    must_answer(context, workers)


def _look_at_the_old(context: StepContext, old: Master) -> None:
    """Warn of what a reload or a log rotation from outside did to the held old master; leave it as it is."""
    if old.accepting:
        context.warn("old_revived", pid=old.pid)
    moved = moved_away(context.machine, context.own.serving.logs, (old.pid,))
    if moved and context.own.serving.master == (old.pid, old.start):
        context.warn("log_rotated", paths=", ".join(moved), pid=old.pid)
