"""The steps that change something, one function each: already so? done; allowed? else refused; act; wait until seen.

Each is given a fresh look and may be begun again after any interruption. After every signal its visible effect is
waited for before the next one, because two pending signals can coalesce into an outage (docs/nginx-facts.md, section 5).
`stage`, `launch` and `verify` have modules of their own, the undoing ones are in `back.py`.
"""

import os
import signal

from fleet.onhost.protocol import Master, Observation
from fleet.onhost.steps.context import Site, StepFailed, StepRefused, find, pair
from fleet.onhost.steps.recover_release import has_or_rescued

DRAIN_SEEN_S = 15.0
USR1_SEEN_S = 3.0
RETIRE_SEEN_S = 10.0


def swap(site: Site, seen: Observation) -> None:
    """The path holds the target; the old file is kept beside it and in the store; the old master is untouched.

    At no moment is the path without a valid file: the new one is made beside it and renamed over it. A path that is a
    link keeps its link: the file at its end is replaced.
    """
    path = path_of(seen)
    if seen.path_sha256 == site.target:
        return
    source = site.store.release(site.target)
    if not has_or_rescued(site, site.target):
        if site.target == site.record.before_process:
            raise StepRefused("release_lost", sha256=site.target[:12])
        raise StepRefused("release_missing", path=source)
    fresh, kept = beside(path, "new"), beside(path, "kept")
    try:
        _keep_old(site, seen, path)
        site.machine.unlink(fresh)
        site.machine.copy(source, fresh, like=path)
        if site.machine.sha256(fresh) != site.target:
            raise StepRefused("disk_error", path=fresh)
        site.machine.unlink(kept)
        site.machine.link(path, kept)
        site.machine.rename(fresh, path)
    except OSError as error:
        site.machine.unlink(fresh)
        raise StepRefused("swap_failed", path=path, error=error)
    if site.look().path_sha256 != site.target:
        raise StepFailed("swap_unseen", path=path)


def _keep_old(site: Site, seen: Observation, path: str) -> None:
    """The store has the file at the path and, where that is another one, the image that the old master runs."""
    old = seen.masters[0]
    if seen.path_sha256 is not None:
        site.store.keep(path, seen.path_sha256)
    if old.sha256 is not None and old.sha256 != seen.path_sha256:
        site.store.keep("/proc/%d/exe" % old.pid, old.sha256)


def drain(site: Site, seen: Observation) -> None:
    """No worker of the old master accepts; it still holds its sockets."""
    if not pair(seen)[0].accepting:
        return
    old, new = pair(site.look())  # the intent has been written since, which may take its time on a busy disk
    if not new.accepting:
        raise StepRefused("new_not_serving", when="")
    must_hear(old)
    site.send(old, signal.SIGWINCH)

    def over(look: Observation) -> bool:
        # When the new master dies the old one takes its workers up again by itself: then no drain will ever be seen.
        return _idle(look, old) or find(look, new.pid, new.start) is None

    came, now = site.wait(over, DRAIN_SEEN_S)
    if not came:
        # A HUP from outside that came together with our WINCH has put it off until the next wake-up, whenever that is;
        # USR1 is one, while the new master serves (docs/nginx-facts.md, section 5).
        site.send(old, signal.SIGUSR1)
        came, now = site.wait(over, USR1_SEEN_S)
        if not came:
            raise StepFailed("drain_unseen", waited=DRAIN_SEEN_S, pid=old.pid)
        if find(now, new.pid, new.start) is not None:
            site.warn("winch_put_off")
    if not (len(now.masters) == 2 and now.masters[1].accepting):
        raise StepFailed("new_not_serving", when=" right after the old ones had been drained")


def must_hear(master: Master) -> None:
    """Raises `StepRefused` for a stopped master: what is sent to it now would act when nobody expects it any more."""
    if master.stopped:
        raise StepRefused("master_stopped", pid=master.pid)


def _idle(seen: Observation, old: Master) -> bool:
    master = find(seen, old.pid, old.start)
    return master is None or not master.accepting


def retire(site: Site, seen: Observation) -> bool:
    """One master, running the target. False when the old one still drains: then the host stays held, undoable."""
    old, new = pair(seen)
    in_time = not old.listeners or _drained(site, old, new)
    if not in_time and not site.options.cut:
        return False
    old, new = pair(site.look())
    if not new.accepting:
        raise StepFailed("new_not_serving", when=" any more")
    if old.listeners:
        site.send(old, signal.SIGQUIT)
    patience_s = RETIRE_SEEN_S if in_time else 0.0
    if not site.wait(lambda look: find(look, old.pid, old.start) is None, patience_s)[0]:
        cut(site, site.look())
    _settle_pid_files(site)
    return True


def cut(site: Site, seen: Observation) -> None:
    """The old master, which has been told to quit, is gone; what its workers had left to finish is cut, and counted."""
    old = seen.masters[0]
    _say_cut(site, old)
    site.try_send(old.pid, old.start, signal.SIGTERM)
    if not site.wait(lambda look: find(look, old.pid, old.start) is None, RETIRE_SEEN_S)[0]:
        raise StepFailed("retire_unseen", pid=old.pid)


def _drained(site: Site, old: Master, new: Master) -> bool:
    """Wait, still undoable, until the old master has no draining worker; false at the drain timeout.

    The new master is watched meanwhile: without it the old one is all there is.
    """

    def over(now: Observation) -> bool:
        master, younger = find(now, old.pid, old.start), find(now, new.pid, new.start)
        return master is None or not master.draining or younger is None or not younger.accepting

    came, now = site.wait(over, site.options.drain_timeout_s, may_turn=True)
    master = find(now, old.pid, old.start)
    if master is not None and master.accepting:
        raise StepFailed("old_revived", pid=old.pid)
    return came


def _say_cut(site: Site, old: Master) -> None:
    open_now = site.machine.established([worker.pid for worker in old.workers])
    site.warn("connections_cut", count=open_now, whose="old")


def _settle_pid_files(site: Site) -> None:
    """The one master's pid file names it, and no `.oldbin` is left; nginx does both itself within milliseconds."""

    def tidy(now: Observation) -> bool:
        return len(now.masters) == 1 and now.pid_file_pid == now.masters[0].pid and not now.oldbin_exists

    came, now = site.wait(tidy, RETIRE_SEEN_S)
    if not came:
        pids = " ".join(str(one.pid) for one in now.masters)
        raise StepFailed("pid_file_lies", path=now.pid_file, held=now.pid_file_pid, pid=pids)


def beside(path: str, word: str) -> str:
    """The name of one of fleet's own files in the folder of `path`; observe knows them by their form."""
    folder, name = os.path.split(path)
    return "%s/.%s.fleet-%s" % (folder, name, word)


def path_of(seen: Observation) -> str:
    """The file that the next USR2 executes. Raises `StepRefused` when it can't be told."""
    if seen.path is None:
        raise StepRefused("no_path")
    return seen.path
