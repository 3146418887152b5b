"""The steps that change something, one function each: already so? done; allowed? else refused; act; wait until seen.

Each is given a fresh look and may be begun again after any interruption. After every signal its visible effect is
waited for before the next one, because two pending signals can coalesce into an outage (nginx-upgrade.md, 3).
`stage` is in `stage.py`, `verify` in `verify.py`, the undoing ones in `back.py`.
"""

import os
import signal

from fleet.onhost.binary import complaint, test_configuration
from fleet.onhost.loaded import loaded_at_s
from fleet.onhost.log import Mark, is_poisoned, lines_since, mark, start_failures
from fleet.onhost.protocol import Master, Observation
from fleet.onhost.record import Serving
from fleet.onhost.site import Site, StepFailed, StepRefused, find, identities, pair

LAUNCH_FLOOR_S = 5.0
LAUNCH_FACTOR = 3.0
TEST_TIMEOUT_S = 60.0
DRAIN_SEEN_S = 15.0
USR1_SEEN_S = 3.0
RETIRE_SEEN_S = 10.0


def swap(site: Site, seen: Observation) -> None:
    """The path holds the target; the old file is kept beside it and in the store; the old master is untouched.

    At no moment is the path without a valid file: the new one is made beside it and renamed over it. A path that is a
    link keeps its link: the file at its end is replaced.
    """
    path = _path(seen)
    if seen.path_sha256 == site.target:
        return
    source = site.store.release(site.target)
    if not site.store.has(site.target):
        raise StepRefused("release_missing", "the store has no release %s" % site.target[:12], "Run the upgrade again.")
    fresh, kept = beside(path, "new"), beside(path, "kept")
    try:
        _keep_old(site, seen, path)
        site.machine.unlink(fresh)
        site.machine.copy(source, fresh, like=path)
        if site.machine.sha256(fresh) != site.target:
            raise StepRefused("disk_error", "%s does not hold what was written into it" % fresh, "Check the disk.")
        site.machine.unlink(kept)
        site.machine.link(path, kept)
        site.machine.rename(fresh, path)
    except OSError as error:
        site.machine.unlink(fresh)
        raise StepRefused("swap_failed", "could not replace %s: %s" % (path, error), "Free space or mend the folder.")
    if site.look().path_sha256 != site.target:
        raise StepFailed("swap_unseen", "%s does not hold the new release after the rename" % path)


def _keep_old(site: Site, seen: Observation, path: str) -> None:
    """The store has the file at the path and, where that is another one, the image that the old master runs."""
    old = seen.masters[0]
    if seen.path_sha256 is not None:
        site.store.keep(path, seen.path_sha256)
    if old.sha256 is not None and old.sha256 != seen.path_sha256:
        site.store.keep("/proc/%d/exe" % old.pid, old.sha256)


def launch(site: Site, seen: Observation) -> None:
    """A second master, child of the old one, runs the target, and both pid files say so."""
    if len(seen.masters) == 2:
        return
    old = seen.masters[0]
    must_hear(old)
    deadline_s = _may_launch(site, seen, old)
    start = mark(site.machine, old.pid)
    loaded_s = loaded_at_s(site.machine, old, site.own.serving)
    site.own.write_serving(
        Serving(old.argv, start.path, start.inode, start.offset, loaded_s, revived=identities(old.accepting))
    )
    before = site.machine.stat(seen.pid_file) if seen.pid_file else None
    site.send(old, signal.SIGUSR2)

    def over(now: Observation) -> bool:
        return _launched(site, now, old) or _given_up(site, now, old, before)

    came, now = site.wait(over, deadline_s)
    if not _launched(site, now, old):
        raise _not_launched(site, now, old, start, deadline_s, came)


def _may_launch(site: Site, seen: Observation, old: Master) -> float:
    """How long a start may take, in seconds: scaled from a configuration test with the new binary. Raises `StepRefused`."""
    if seen.pid_file_pid != old.pid and seen.pid_file:
        # An upgrade's preflight refuses this; a rollback must get through, and USR2 without it would poison the master.
        site.warn(
            "pid_file_lies", "%s named %s; it names the master %d again" % (seen.pid_file, seen.pid_file_pid, old.pid)
        )
        site.machine.write(seen.pid_file, "%d\n" % old.pid, mode=0o644)
    tested = test_configuration(site.machine, _path(seen), old, site.layout, TEST_TIMEOUT_S)
    if tested.code != 0:
        raise StepRefused("config_rejected", "the new binary fails its test: %s" % complaint(tested.output))
    return LAUNCH_FACTOR * tested.took_s + LAUNCH_FLOOR_S


def _launched(site: Site, now: Observation, old: Master) -> bool:
    if len(now.masters) != 2 or find(now, old.pid, old.start) is None:
        return False
    new = now.masters[1]
    return (new.ppid, new.sha256) == (old.pid, site.target) and (now.pid_file_pid, now.oldbin_pid) == (new.pid, old.pid)


def _given_up(site: Site, now: Observation, old: Master, before: "os.stat_result | None") -> bool:
    """nginx renames the pid file away and back: its changed ctime is the only trace of an attempt that has failed."""
    if len(now.masters) != 1 or now.pid_file_pid != old.pid or now.oldbin_exists or before is None:
        return False
    after = site.machine.stat(now.pid_file or "")
    return after is not None and after.st_ctime_ns != before.st_ctime_ns and not _starting(site, old)


def _starting(site: Site, old: Master) -> bool:
    """Whether the old master has a child that may yet become the new one."""
    known = {worker.pid for worker in old.workers}
    return any(
        process.ppid == old.pid
        and process.pid not in known
        and "worker process" not in process.title
        and "cache" not in process.title
        for process in site.machine.processes()
    )


def _not_launched(site: Site, now: Observation, old: Master, start: Mark, deadline_s: float, came: bool) -> StepFailed:
    lines = lines_since(site.machine, start, (old.pid,)) or []
    if is_poisoned(lines, old.pid):
        site.own.write_record(site.record._replace(poisoned=(old.pid, old.start)))
        return StepFailed(
            "poisoned",
            "the old master could not start the new one and is poisoned now: a reload would double its workers. nginx says: "
            + _last(lines),
            "Don't reload. Mend the cause (pid folder, pids limit, memory), upgrade again, and reload once afterwards.",
        )
    causes = start_failures(lines)
    if causes:
        return StepFailed("launch_failed", "the new master did not start. nginx says: " + " / ".join(causes[-3:]))
    if came:
        return StepFailed("launch_failed", "the new master ended at once and left no reason in the log")
    if len(now.masters) == 2:
        return StepFailed("launch_slow", "the new master has not come up within %.0f s" % deadline_s)
    return StepFailed(
        "usr2_ignored",
        "the old master did not react to USR2 within %.0f s" % deadline_s,
        "Look into its error log; restart nginx once if it is supervised or runs with `daemon off`.",
    )


def _last(lines: "list[str]") -> str:
    return " / ".join(start_failures(lines)[-2:]) or "nothing"


def drain(site: Site, seen: Observation) -> None:
    """No worker of the old master accepts; it still holds its sockets."""
    old, new = pair(seen)
    if not old.accepting:
        return
    if not new.accepting:
        raise StepRefused(
            "new_not_serving", "the new master has no accepting worker: draining the old one would be an outage"
        )
    old = pair(site.look())[0]
    must_hear(old)
    site.send(old, signal.SIGWINCH)
    came, now = site.wait(lambda look: _idle(look, old), DRAIN_SEEN_S)
    if not came:
        # A HUP from outside that came together with our WINCH has put it off until the next wake-up, whenever that is;
        # USR1 is one, while the new master serves (nginx-upgrade.md, 3).
        site.send(old, signal.SIGUSR1)
        came, now = site.wait(lambda look: _idle(look, old), USR1_SEEN_S)
    if not came:
        raise StepFailed(
            "drain_unseen",
            "the old workers still accept %.0f s after WINCH; both releases serve" % DRAIN_SEEN_S,
            "Look at the old master (pid %d): is it stopped, or does it run with `daemon off`?" % old.pid,
        )
    if not (len(now.masters) == 2 and now.masters[1].accepting):
        raise StepFailed("new_not_serving", "the new workers were gone right after the old ones had been drained")


def must_hear(master: Master) -> None:
    """Raises `StepRefused` for a stopped master: what is sent to it now would act when nobody expects it any more."""
    if master.stopped:
        raise StepRefused(
            "master_stopped",
            "the old master (pid %d) is stopped, and signals would wait in it" % master.pid,
            "Let it go on (kill -CONT %d), then ask again." % master.pid,
        )


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
        raise StepFailed("new_not_serving", "the new master has no accepting worker any more: the old one is kept")
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
        raise StepFailed("retire_unseen", "the old master (pid %d) is still there after QUIT and TERM" % old.pid)


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
        raise StepFailed(
            "old_revived", "the old workers accept again: somebody sent HUP to the old master", "Commit again."
        )
    return came


def _say_cut(site: Site, old: Master) -> None:
    open_now = site.machine.established([worker.pid for worker in old.workers])
    site.warn("connections_cut", "%d connection(s) of the old workers are cut" % open_now)


def _settle_pid_files(site: Site) -> None:
    """The one master's pid file names it, and no `.oldbin` is left; nginx does both itself within milliseconds."""

    def tidy(now: Observation) -> bool:
        return len(now.masters) == 1 and now.pid_file_pid == now.masters[0].pid and not now.oldbin_exists

    came, now = site.wait(tidy, RETIRE_SEEN_S)
    if not came:
        raise StepFailed(
            "pid_file_lies",
            "%s names %s after the old master has left" % (now.pid_file, now.pid_file_pid),
            "Write the master's pid (%s) into it." % ", ".join(str(one.pid) for one in now.masters),
        )


def beside(path: str, word: str) -> str:
    """The name of one of fleet's own files in the folder of `path`; observe knows them by their form."""
    folder, name = os.path.split(path)
    return "%s/.%s.fleet-%s" % (folder, name, word)


def _path(seen: Observation) -> str:
    if seen.path is None:
        raise StepRefused("no_path", "the master's own path can't be told", "Name it in the inventory: nginx_binary.")
    return seen.path
