"""The steps that undo: revive, dismiss, restore, sweep.

The order matters: revive the old master's workers, *see them answer*, and only then dismiss the new master. With QUIT to
the new master first, no worker would accept for as long as one of its downloads lasts (docs/nginx-facts.md, section 6).
"""

import signal
from typing import Iterable, Tuple

from fleet.onhost.nginx.master_paths import OLDBIN
from fleet.onhost.nginx.observe import beside
from fleet.onhost.nginx.probe import ask
from fleet.onhost.observation import Master, Observation, Worker
from fleet.onhost.steps.context import StepContext, StepFailed, StepRefused, accepting, find, identities, pair
from fleet.onhost.steps.forward import USR1_SEEN_S, must_hear, path_of
from fleet.onhost.steps.log_evidence import floods
from fleet.onhost.steps.own_files import take_name_back
from fleet.onhost.steps.probe_verdict import counted
from fleet.onhost.steps.recover_release import has_or_rescued
from fleet.onhost.steps.unit_follows import follow
from fleet.onhost.steps.verify import say_doubled

REVIVE_SEEN_S = 15.0
CONT_SEEN_S = 1.0
PENDING_HUP_S = 2.0
UNSERVED_PATIENCE_S = 1.0
TERM_PATIENCE_S = 5.0
KILL_PATIENCE_S = 5.0


def revive(context: StepContext, seen: Observation) -> None:
    """Give the master that still holds its sockets accepting workers again, and see them answer.

    HUP is not idempotent: each one adds a full set of workers. So count the workers first, and give a HUP of an earlier
    visit time to show before sending another one.
    """
    master = _to_revive(seen)
    if not any(one.accepting for one in seen.masters):
        context.warn("nobody_accepted", pid=master.pid)
    if not master.accepting and not _hup_is_pending(context, master):
        context.send(master, signal.SIGHUP)
    wanted = max([1] + [len(other.accepting) for other in seen.masters if other.pid != master.pid])
    came, now = context.wait(lambda look: len(accepting(look, master)) >= wanted, REVIVE_SEEN_S)
    if not came and not accepting(now, master):
        raise StepFailed("revive_unseen", pid=master.pid, waited=REVIVE_SEEN_S)
    _answers(context, now, master)
    context.remember(lambda serving: serving._replace(revived=identities(accepting(now, master))))


def _to_revive(seen: Observation) -> Master:
    for master in seen.masters:
        if master.listeners:
            return master
    raise StepRefused("no_listeners")


def _hup_is_pending(context: StepContext, master: Master) -> bool:
    last = context.own.last_signal(master.pid, master.start, ("SIGWINCH", "SIGHUP"))
    if last is None or last["signal"] != "SIGHUP":
        return False
    came, _ = context.wait(lambda look: bool(accepting(look, master)), PENDING_HUP_S)
    return came


def _answers(context: StepContext, seen: Observation, master: Master) -> None:
    now = find(seen, master.pid, master.start)
    workers = [worker.pid for worker in now.accepting] if now else []
    for probe in counted(context):
        answer = ask(context.machine, probe, workers)
        if answer.by is None:
            raise StepFailed("old_not_answering", problem=answer.problem)
        if answer.problem:
            context.warn("old_answers_badly", problem=answer.problem)


def dismiss(context: StepContext, seen: Observation) -> None:
    """End the new master with all of its workers; the old one serves and has its pid file back.

    QUIT, then TERM, then KILL; TERM at once when its workers crash in a loop that fills the disk. After KILL its workers
    would live on as orphans and accept, so they are noted first and ended afterwards.
    """
    old, new = pair(seen)
    must_hear(old)
    _settle_winch(context, old)
    seen = context.look()
    old, new = pair(seen)
    if not old.accepting:
        raise StepRefused("old_not_serving")
    workers = new.workers
    say_doubled(context, seen, old)
    _note_reload(context, new)
    follow(context.instance, context.say, seen)  # A reload from outside makes systemd name the master that now ends.
    _end_master(context, seen, new)
    end_workers(context, workers)
    _old_alone(context, old)


def _end_master(context: StepContext, seen: Observation, new: Master) -> None:
    hears = not new.stopped or _runs_again(context, new)
    patience_s = context.options.dismiss_timeout_s if new.accepting or new.draining else UNSERVED_PATIENCE_S
    gone = hears and not floods(context, seen, new) and _ended(context, new, signal.SIGQUIT, patience_s)
    if not gone:
        _say_cut(context, context.look(), new)
        gone = hears and _ended(context, new, signal.SIGTERM, min(TERM_PATIENCE_S, patience_s))
    if not gone:
        context.warn("new_master_killed", pid=new.pid, workers=_pids(new.workers) or "none")
        gone = _ended(context, new, signal.SIGKILL, KILL_PATIENCE_S)
    if not gone:
        raise StepFailed("dismiss_unseen", pid=new.pid)


def _runs_again(context: StepContext, new: Master) -> bool:
    """Whether a stopped new master runs again after CONT. Then it can end its workers itself."""
    context.try_send(new.pid, new.start, signal.SIGCONT)
    came, now = context.wait(lambda look: not _is_stopped(look, new), CONT_SEEN_S)
    if came and find(now, new.pid, new.start) is not None:
        context.warn("new_master_woken", pid=new.pid)
    return came


def _is_stopped(seen: Observation, master: Master) -> bool:
    now = find(seen, master.pid, master.start)
    return now is not None and now.stopped


def _settle_winch(context: StepContext, old: Master) -> None:
    """Make sure that no WINCH is pending in the old master: it would act once the end of the new master wakes the old one.

    If the effect of a WINCH was never seen, USR1 makes it act now, while the new master serves; then revive.
    """
    last = context.own.last_signal(old.pid, old.start, ("SIGWINCH", "SIGHUP"))
    if not old.accepting or last is None or last["signal"] != "SIGWINCH":
        return
    context.send(old, signal.SIGUSR1)
    went_idle, now = context.wait(lambda look: not accepting(look, old), USR1_SEEN_S)
    if went_idle:
        revive(context, now)


def _note_reload(context: StepContext, new: Master) -> None:
    """Note that a reload is due if the new master was reloaded: none of the workers that `verify` saw is left."""
    verified = set(context.own.serving.verified)
    if verified and not verified & set(identities(new.workers)):
        context.remember(lambda serving: serving._replace(reload_due=True))


def _ended(context: StepContext, master: Master, signum: int, patience_s: float) -> bool:
    if not context.try_send(master.pid, master.start, signum):
        return True
    gone, _ = context.wait(lambda look: find(look, master.pid, master.start) is None, patience_s)
    return gone


def _say_cut(context: StepContext, seen: Observation, new: Master) -> None:
    now = find(seen, new.pid, new.start)
    cut = context.machine.established([worker.pid for worker in now.workers]) if now else 0
    if cut:
        context.warn("connections_cut", count=cut, whose="new")


def end_workers(context: StepContext, workers: Iterable[Worker]) -> None:
    """End these workers: QUIT lets them finish, TERM and KILL end those that hang. Raises `StepFailed`."""
    left = [worker for worker in workers if _alive(context, worker)]
    for signum, patience_s in (
        (signal.SIGQUIT, context.options.dismiss_timeout_s),
        (signal.SIGTERM, TERM_PATIENCE_S),
        (signal.SIGKILL, KILL_PATIENCE_S),
    ):
        left = [worker for worker in left if context.try_send(worker.pid, worker.start, signum)]
        if not left:
            return
        _await_end(context, left, patience_s)
        left = [worker for worker in left if _alive(context, worker)]
    if left:
        raise StepFailed("orphans_left", pids=_pids(left))


def _await_end(context: StepContext, workers: Iterable[Worker], patience_s: float) -> None:
    context.wait(lambda _: not any(_alive(context, worker) for worker in workers), patience_s)


def _alive(context: StepContext, worker: Worker) -> bool:
    process = context.machine.process(worker.pid)
    return process is not None and process.start == worker.start and process.state not in "ZX"


def _pids(workers: Iterable[Worker]) -> str:
    return ", ".join(str(worker.pid) for worker in workers)


def _old_alone(context: StepContext, old: Master) -> None:
    """Wait for the old master to be alone with its pid file. nginx renames it back within a millisecond; if not, write it."""

    def back(now: Observation) -> bool:
        return len(now.masters) == 1 and now.pid_file_pid == old.pid

    came, now = context.wait(back, KILL_PATIENCE_S)
    if not came and len(now.masters) == 1 and now.pid_file:
        context.warn("pid_file_rewritten", path=now.pid_file, held=now.pid_file_pid or "no pid", pid=old.pid)
        context.machine.write(now.pid_file, "%d\n" % old.pid, mode=0o644)


def restore(context: StepContext, seen: Observation) -> None:
    """Put the file from before back at the path: rename the kept file, or copy it from the store.

    The kept file is the very one that the old master executes, so that /proc/PID/exe reads the path again.
    """
    wanted = context.belongs_at_path(seen)
    if seen.path_sha256 == wanted:
        return
    path = path_of(seen)
    kept, fresh = beside(path, "kept"), beside(path, "new")
    try:
        if seen.path_sha256 not in (None, context.record.target):
            context.store.keep(path, str(seen.path_sha256))
        if context.machine.sha256(kept) == wanted:
            context.machine.rename(kept, path)
        else:
            _from_store(context, wanted, fresh, path)
    except OSError as error:
        raise StepFailed("restore_failed", path=path, error=error)
    if context.look().path_sha256 != wanted:
        raise StepFailed("restore_unseen", path=path)


def _from_store(context: StepContext, wanted: str, fresh: str, path: str) -> None:
    if not has_or_rescued(context, wanted):
        raise StepFailed("release_lost", sha256=wanted[:12])
    like = path if context.machine.exists(path) else context.store.release(wanted)
    context.machine.unlink(fresh)
    context.machine.copy(context.store.release(wanted), fresh, like=like)
    context.machine.rename(fresh, path)


def sweep(context: StepContext, seen: Observation) -> None:
    """Remove what is left over: orphan workers, a stale `.oldbin`, fleet's temporary files, a wrong file at the path."""
    if seen.path_sha256 != context.belongs_at_path(seen):
        context.warn("path_put_right", path=seen.path)
        restore(context, seen)
    orphans = _orphans(context, seen)
    end_workers(context, orphans)
    if orphans:
        context.warn("orphans_ended", pids=_pids(orphans))
    if seen.path is not None:
        take_name_back(context.machine, seen, seen.path)
    for path in seen.litter:
        context.machine.unlink(path)
        if path.endswith(OLDBIN):
            context.warn("stale_oldbin", path=path)
    left = context.look()
    if left.litter or left.orphans:
        names = ", ".join(left.litter + tuple("worker %d" % pid for pid in left.orphans))
        raise StepFailed("sweep_unseen", names=names)


def _orphans(context: StepContext, seen: Observation) -> Tuple[Worker, ...]:
    found = []
    for pid in seen.orphans:
        process = context.machine.process(pid)
        if process is not None:
            found.append(Worker(pid, process.start, False, True))
    return tuple(found)
