"""The steps that change something, one function each: already so? done; allowed? else refused; act; wait until seen.

Each is given a fresh look and may be begun again after any interruption. After every signal its visible effect is
waited for before the next one, because two pending signals can coalesce into an outage (docs/nginx-facts.md, section 5).
`stage`, `launch` and `verify` have modules of their own, the undoing ones are in `back.py`.
"""

import os
import signal

from fleet.onhost.protocol import Master, Observation
from fleet.onhost.steps.context import StepContext, StepFailed, StepRefused, find, pair
from fleet.onhost.steps.recover_release import has_or_rescued

DRAIN_SEEN_S = 15.0
USR1_SEEN_S = 3.0
RETIRE_SEEN_S = 10.0


def swap(context: StepContext, seen: Observation) -> None:
    """The path holds the target; the old file is kept beside it and in the store; the old master is untouched.

    At no moment is the path without a valid file: the new one is made beside it and renamed over it. A path that is a
    link keeps its link: the file at its end is replaced.
    """
    path = path_of(seen)
    if seen.path_sha256 == context.target:
        return
    source = context.store.release(context.target)
    if not has_or_rescued(context, context.target):
        if context.target == context.record.before_process:
            raise StepRefused("release_lost", sha256=context.target[:12])
        raise StepRefused("release_missing", path=source)
    fresh, kept = beside(path, "new"), beside(path, "kept")
    try:
        _keep_old(context, seen, path)
        context.machine.unlink(fresh)
        context.machine.copy(source, fresh, like=path)
        if context.machine.sha256(fresh) != context.target:
            raise StepRefused("disk_error", path=fresh)
        context.machine.unlink(kept)
        context.machine.link(path, kept)
        context.machine.rename(fresh, path)
    except OSError as error:
        context.machine.unlink(fresh)
        raise StepRefused("swap_failed", path=path, error=error)
    if context.look().path_sha256 != context.target:
        raise StepFailed("swap_unseen", path=path)


def _keep_old(context: StepContext, seen: Observation, path: str) -> None:
    """The store has the file at the path and, where that is another one, the image that the old master runs."""
    old = seen.masters[0]
    if seen.path_sha256 is not None:
        context.store.keep(path, seen.path_sha256)
    if old.sha256 is not None and old.sha256 != seen.path_sha256:
        context.store.keep("/proc/%d/exe" % old.pid, old.sha256)


def drain(context: StepContext, seen: Observation) -> None:
    """No worker of the old master accepts; it still holds its sockets."""
    if not pair(seen)[0].accepting:
        return
    old, new = pair(context.look())  # the intent has been written since, which may take its time on a busy disk
    if not new.accepting:
        raise StepRefused("new_not_serving", when="")
    must_hear(old)
    context.send(old, signal.SIGWINCH)

    def over(look: Observation) -> bool:
        # When the new master dies the old one takes its workers up again by itself: then no drain will ever be seen.
        return _idle(look, old) or find(look, new.pid, new.start) is None

    came, now = context.wait(over, DRAIN_SEEN_S)
    if not came:
        # A HUP from outside that came together with our WINCH has put it off until the next wake-up, whenever that is;
        # USR1 is one, while the new master serves (docs/nginx-facts.md, section 5).
        context.send(old, signal.SIGUSR1)
        came, now = context.wait(over, USR1_SEEN_S)
        if not came:
            raise StepFailed("drain_unseen", waited=DRAIN_SEEN_S, pid=old.pid)
        if find(now, new.pid, new.start) is not None:
            context.warn("winch_put_off")
    if not (len(now.masters) == 2 and now.masters[1].accepting):
        raise StepFailed("new_not_serving", when=" after the old workers were drained")


def must_hear(master: Master) -> None:
    """Raises `StepRefused` for a stopped master: what is sent to it now would act when nobody expects it any more."""
    if master.stopped:
        raise StepRefused("master_stopped", pid=master.pid)


def _idle(seen: Observation, old: Master) -> bool:
    master = find(seen, old.pid, old.start)
    return master is None or not master.accepting


def retire(context: StepContext, seen: Observation) -> bool:
    """One master, running the target. False when the old one still drains: then the host stays held, undoable."""
    old, new = pair(seen)
    in_time = not old.listeners or _drained(context, old, new)
    if not in_time and not context.options.cut:
        return False
    old, new = pair(context.look())
    if not new.accepting:
        raise StepFailed("new_not_serving", when=" left")
    if old.listeners:
        context.send(old, signal.SIGQUIT)
    patience_s = RETIRE_SEEN_S if in_time else 0.0
    if not context.wait(lambda look: find(look, old.pid, old.start) is None, patience_s)[0]:
        cut(context, context.look())
    _settle_pid_files(context)
    return True


def cut(context: StepContext, seen: Observation) -> None:
    """The old master, which has been told to quit, is gone; what its workers had left to finish is cut, and counted."""
    old = seen.masters[0]
    _say_cut(context, old)
    context.try_send(old.pid, old.start, signal.SIGTERM)
    if not context.wait(lambda look: find(look, old.pid, old.start) is None, RETIRE_SEEN_S)[0]:
        raise StepFailed("retire_unseen", pid=old.pid)


def _drained(context: StepContext, old: Master, new: Master) -> bool:
    """Wait, still undoable, until the old master has no draining worker; false at the drain timeout.

    The new master is watched meanwhile: without it the old one is all there is.
    """

    def over(now: Observation) -> bool:
        master, younger = find(now, old.pid, old.start), find(now, new.pid, new.start)
        return master is None or not master.draining or younger is None or not younger.accepting

    came, now = context.wait(over, context.options.drain_timeout_s, may_turn=True)
    master = find(now, old.pid, old.start)
    if master is not None and master.accepting:
        raise StepFailed("old_revived", pid=old.pid)
    return came


def _say_cut(context: StepContext, old: Master) -> None:
    open_now = context.machine.established([worker.pid for worker in old.workers])
    context.warn("connections_cut", count=open_now, whose="old")


def _settle_pid_files(context: StepContext) -> None:
    """The one master's pid file names it, and no `.oldbin` is left; nginx does both itself within milliseconds."""

    def tidy(now: Observation) -> bool:
        return len(now.masters) == 1 and now.pid_file_pid == now.masters[0].pid and not now.oldbin_exists

    came, now = context.wait(tidy, RETIRE_SEEN_S)
    if not came:
        pids = " ".join(str(one.pid) for one in now.masters)
        raise StepFailed("pid_file_lies", path=now.pid_file, held=now.pid_file_pid or "no pid", pid=pids)


def beside(path: str, word: str) -> str:
    """The name of one of fleet's own files in the folder of `path`; observe knows them by their form."""
    folder, name = os.path.split(path)
    return "%s/.%s.fleet-%s" % (folder, name, word)


def path_of(seen: Observation) -> str:
    """The file that the next USR2 executes. Raises `StepRefused` when it can't be told."""
    if seen.path is None:
        raise StepRefused("no_path")
    return seen.path
