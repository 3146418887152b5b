"""The steps `swap`, `drain` and `retire`.

Every step has one form: return if its effect is there already, refuse if it may not act, act, wait until the effect can be
seen. So it can begin again after any interruption. No signal is sent before the effect of the last one was seen: two
pending signals can add up to an outage (docs/nginx-facts.md, section 5).
"""

import signal

from fleet.onhost.observation import Master, Observation
from fleet.onhost.steps.context import StepContext, StepFailed, StepRefused, WinchPending, find, pair
from fleet.onhost.steps.own_files import put_at
from fleet.onhost.steps.recover_release import has_or_rescued
from fleet.onhost.steps.unit_follows import ends_with_old

DRAIN_SEEN_S = 15.0
USR1_SEEN_S = 3.0
RETIRE_SEEN_S = 10.0


def swap(context: StepContext, seen: Observation) -> None:
    """Put the target at the path, and keep the old file beside it and in the store. The old master is not touched.

    The path holds a valid file at every moment: the new file is made beside it, and the two exchange their names. A
    symbolic link stays: the file that it leads to is replaced.
    """
    path = path_of(seen)
    if seen.path_sha256 == context.target:
        return
    if context.must_leave(seen):
        raise StepRefused("path_changed", path=path, file=context.file_words(seen))
    source = context.store.release(context.target)
    if not has_or_rescued(context, context.target):
        if context.target == context.record.before_process:
            raise StepRefused("release_lost", sha256=context.target[:12])
        raise StepRefused("release_missing", path=source)
    try:
        _keep_old(context, seen, path)
        put_at(context, seen, source, path)
    except OSError as error:
        raise StepRefused("swap_failed", path=path, error=error)
    if context.look().path_sha256 != context.target:
        raise StepFailed("swap_unseen", path=path)


def _keep_old(context: StepContext, seen: Observation, path: str) -> None:
    """Keep the file at the path in the store and, where it is another one, the image that the old master runs."""
    old = seen.masters[0]
    if seen.path_sha256 is not None:
        context.store.keep(path, seen.path_sha256)
    if old.sha256 is not None and old.sha256 != seen.path_sha256:
        context.store.keep("/proc/%d/exe" % old.pid, old.sha256)


def drain(context: StepContext, seen: Observation) -> None:
    """Make the old master's workers finish and exit. It keeps its sockets."""
    if not pair(seen)[0].accepting:
        return
    old, new = pair(context.look())  # Writing the intent may have taken long, on a busy disk.
    if not new.accepting:
        raise StepRefused("new_not_serving", when="")
    must_hear(old)
    context.send(old, signal.SIGWINCH)

    def over(look: Observation) -> bool:
        # If the new master dies, nginx gives the old one workers again: then no drain will ever be seen.
        return _idle(look, old) or find(look, new.pid, new.start) is None

    came, now = context.wait(over, DRAIN_SEEN_S)
    if not came:
        # A HUP from outside, together with this WINCH, delays it until the next signal. USR1 is one, and acts while the
        # new master serves (docs/nginx-facts.md, section 5).
        context.send(old, signal.SIGUSR1)
        came, now = context.wait(over, USR1_SEEN_S)
        if not came:
            raise WinchPending("drain_unseen", waited=DRAIN_SEEN_S, pid=old.pid)
        if find(now, new.pid, new.start) is not None:
            context.warn("winch_put_off")
    if not (len(now.masters) == 2 and now.masters[1].accepting):
        raise StepFailed("new_not_serving", when=" after the old workers were drained")


def must_hear(master: Master) -> None:
    """Raises `StepRefused` for a stopped master: a signal sent now would act at some later, unexpected time."""
    if master.stopped:
        raise StepRefused("master_stopped", pid=master.pid)


def _idle(seen: Observation, old: Master) -> bool:
    master = find(seen, old.pid, old.start)
    return master is None or not master.accepting


def retire(context: StepContext, seen: Observation) -> bool:
    """End the old master. False when it still drains at the drain timeout: then the host stays held and can go back."""
    old, new = pair(seen)
    in_time = not old.listeners or _drained(context, old, new)
    if not in_time and not context.options.cut:
        return False
    now = context.look()
    old, new = pair(now)
    if not new.accepting:
        raise StepFailed("new_not_serving", when=" left")
    ends = ends_with_old(context.instance, now)
    if ends is not None:
        raise StepRefused(ends.word, **ends.facts)
    if old.listeners:
        context.send(old, signal.SIGQUIT)
    patience_s = RETIRE_SEEN_S if in_time else 0.0
    if not context.wait(lambda look: find(look, old.pid, old.start) is None, patience_s)[0]:
        cut(context, context.look())
    _settle_pid_files(context)
    return True


def cut(context: StepContext, seen: Observation) -> None:
    """End an old master that got QUIT already. Count the connections that this cuts, and warn of them."""
    old = seen.masters[0]
    _say_cut(context, old)
    context.try_send(old.pid, old.start, signal.SIGTERM)
    if not context.wait(lambda look: find(look, old.pid, old.start) is None, RETIRE_SEEN_S)[0]:
        raise StepFailed("retire_unseen", pid=old.pid)


def _drained(context: StepContext, old: Master, new: Master) -> bool:
    """Whether the old master's workers were gone before the drain timeout. Until then the host can still go back.

    The wait also ends when the new master stops accepting: then the old one must not get QUIT.
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
    """Wait until the pid file names the one master and `.oldbin` is gone. nginx does both within milliseconds."""

    def tidy(now: Observation) -> bool:
        return len(now.masters) == 1 and now.pid_file_pid == now.masters[0].pid and not now.oldbin_exists

    came, now = context.wait(tidy, RETIRE_SEEN_S)
    if not came:
        pids = " ".join(str(one.pid) for one in now.masters)
        raise StepFailed("pid_file_lies", path=now.pid_file, held=now.pid_file_pid or "no pid", pid=pids)


def path_of(seen: Observation) -> str:
    """The file that the next USR2 executes. Raises `StepRefused` when it is not known."""
    if seen.path is None:
        raise StepRefused("no_path")
    return seen.path
