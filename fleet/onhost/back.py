"""The steps that undo: revive, dismiss, restore, sweep.

The order is the point: revive the old master's workers, *see them answer*, and only then dismiss the new master. QUIT to
the new master first would leave nobody accepting for as long as one of its downloads lasts (nginx-upgrade.md, 4).
"""

import signal
from typing import Iterable, Tuple

from fleet.onhost.probe import ask
from fleet.onhost.protocol import Master, Observation, Worker
from fleet.onhost.site import Site, StepFailed, StepRefused, find, pair
from fleet.onhost.steps import beside

REVIVE_SEEN_S = 15.0
PENDING_HUP_S = 2.0
UNSERVED_PATIENCE_S = 1.0
TERM_PATIENCE_S = 5.0
KILL_PATIENCE_S = 5.0


def revive(site: Site, seen: Observation) -> None:
    """The master that still holds its sockets has accepting workers again, and they answer.

    HUP is not idempotent: each one adds a full set of workers. So workers are counted first, and a HUP that an earlier
    visit may have sent is given time to show before another one.
    """
    master = _to_revive(seen)
    if not master.accepting and not _hup_is_pending(site, master):
        site.send(master, signal.SIGHUP)
    wanted = max([1] + [len(other.accepting) for other in seen.masters if other.pid != master.pid])
    came, now = site.wait(lambda look: _accepting(look, master) >= wanted, REVIVE_SEEN_S)
    if not came and not _accepting(now, master):
        raise StepFailed(
            "revive_unseen",
            "the old master (pid %d) has no accepting worker %.0f s after HUP; the new one is left serving"
            % (master.pid, REVIVE_SEEN_S),
            "Look into the error log. Do not stop the new master.",
        )
    _answers(site, now, master)


def _to_revive(seen: Observation) -> Master:
    for master in seen.masters:
        if master.listeners:
            return master
    raise StepRefused("no_listeners", "no master holds a listening socket any more")


def _hup_is_pending(site: Site, master: Master) -> bool:
    last = site.own.last_signal(master.pid, master.start)
    if last is None or last.get("signal") != "SIGHUP":
        return False
    came, _ = site.wait(lambda look: _accepting(look, master) > 0, PENDING_HUP_S)
    return came


def _accepting(seen: Observation, master: Master) -> int:
    now = find(seen, master.pid, master.start)
    return len(now.accepting) if now else 0


def _answers(site: Site, seen: Observation, master: Master) -> None:
    now = find(seen, master.pid, master.start)
    workers = [worker.pid for worker in now.accepting] if now else []
    for probe in site.options.probes:
        answer = ask(site.machine, probe, workers)
        if answer.trouble:
            site.warn("old_answers_badly", "the revived old workers: %s" % answer.trouble, "Look at what they serve.")


def dismiss(site: Site, seen: Observation) -> None:
    """The new master is gone with all of its workers; the old one serves and has its pid file back.

    QUIT, then TERM, then KILL. After KILL the workers would live on as orphans and accept, so they are remembered first.
    """
    old, new = pair(seen)
    if not old.accepting:
        raise StepRefused("old_not_serving", "the old master has no accepting worker: the new one must not go yet")
    workers = new.workers
    patience_s = site.options.dismiss_timeout_s if new.accepting or new.draining else UNSERVED_PATIENCE_S
    gone = not new.stopped and _ended(site, new, signal.SIGQUIT, patience_s)
    if not gone:
        _say_cut(site, site.look(), new)
        gone = not new.stopped and _ended(site, new, signal.SIGTERM, min(TERM_PATIENCE_S, patience_s))
    if not gone:
        gone = _ended(site, new, signal.SIGKILL, KILL_PATIENCE_S)
    if not gone:
        raise StepFailed("dismiss_unseen", "the new master (pid %d) is still there after QUIT, TERM and KILL" % new.pid)
    end_workers(site, workers)
    _old_alone(site, old)


def _ended(site: Site, master: Master, signum: int, patience_s: float) -> bool:
    if not site.try_send(master.pid, master.start, signum):
        return True
    gone, _ = site.wait(lambda look: find(look, master.pid, master.start) is None, patience_s)
    return gone


def _say_cut(site: Site, seen: Observation, new: Master) -> None:
    now = find(seen, new.pid, new.start)
    cut = site.machine.established([worker.pid for worker in now.workers]) if now else 0
    if cut:
        site.warn("connections_cut", "%d connection(s) of the new workers are cut" % cut)


def end_workers(site: Site, workers: Iterable[Worker]) -> None:
    """None of these workers is left: QUIT lets them finish, TERM and KILL end those that hang."""
    left = [worker for worker in workers if _alive(site, worker)]
    for signum, patience_s in (
        (signal.SIGQUIT, site.options.dismiss_timeout_s),
        (signal.SIGTERM, TERM_PATIENCE_S),
        (signal.SIGKILL, KILL_PATIENCE_S),
    ):
        left = [worker for worker in left if site.try_send(worker.pid, worker.start, signum)]
        if not left:
            return
        _await_end(site, left, patience_s)
        left = [worker for worker in left if _alive(site, worker)]
    if left:
        raise StepFailed("orphans_left", "workers %s are still there after KILL" % _pids(left))


def _await_end(site: Site, workers: Iterable[Worker], patience_s: float) -> None:
    site.wait(lambda _: not any(_alive(site, worker) for worker in workers), patience_s)


def _alive(site: Site, worker: Worker) -> bool:
    process = site.machine.process(worker.pid)
    return process is not None and process.start == worker.start and process.state not in "ZX"


def _pids(workers: Iterable[Worker]) -> str:
    return ", ".join(str(worker.pid) for worker in workers)


def _old_alone(site: Site, old: Master) -> None:
    """nginx gives the old master its pid file back by itself, within a millisecond of the new one's end."""

    def back(now: Observation) -> bool:
        return len(now.masters) == 1 and now.pid_file_pid == old.pid

    came, now = site.wait(back, KILL_PATIENCE_S)
    if not came and len(now.masters) == 1 and now.pid_file:
        site.warn(
            "pid_file_lies", "%s named %s; it names the master %d again" % (now.pid_file, now.pid_file_pid, old.pid)
        )
        site.machine.write(now.pid_file, "%d\n" % old.pid, mode=0o644)


def restore(site: Site, seen: Observation) -> None:
    """The path holds what it held before: the kept file renamed back, or a copy out of the store."""
    wanted = site.belongs_at_path()
    if seen.path_sha256 == wanted:
        return
    if seen.path is None:
        raise StepRefused("no_path", "the master's own path can't be told", "Name it in the inventory: nginx_binary.")
    kept, fresh = beside(seen.path, "kept"), beside(seen.path, "new")
    try:
        if seen.path_sha256 is not None:
            site.store.keep(seen.path, seen.path_sha256)
        if site.machine.sha256(kept) == wanted:
            site.machine.rename(kept, seen.path)
        else:
            _from_store(site, wanted, fresh, seen.path)
    except OSError as error:
        raise StepFailed(
            "restore_failed", "could not put %s back: %s" % (seen.path, error), "Free space, then roll back again."
        )
    if site.look().path_sha256 != wanted:
        raise StepFailed("restore_unseen", "%s does not hold the release before after the rename" % seen.path)


def _from_store(site: Site, wanted: str, fresh: str, path: str) -> None:
    if not site.store.has(wanted):
        raise StepFailed("release_lost", "neither the kept file nor the store has %s any more" % wanted[:12])
    like = path if site.machine.exists(path) else site.store.release(wanted)
    site.machine.unlink(fresh)
    site.machine.copy(site.store.release(wanted), fresh, like=like)
    site.machine.rename(fresh, path)


def sweep(site: Site, seen: Observation) -> None:
    """No orphan workers, no `.oldbin` that names nobody, no temporary files, and the right file at the path."""
    if seen.path_sha256 != site.belongs_at_path():
        site.warn("path_put_right", "%s held another file; the one that runs is put back there" % seen.path)
        restore(site, seen)
    end_workers(site, _orphans(site, seen))
    for path in seen.litter:
        site.machine.unlink(path)
    left = site.look()
    if left.litter or left.orphans:
        names = ", ".join(left.litter + tuple("worker %d" % pid for pid in left.orphans))
        raise StepFailed("sweep_unseen", "still there after the sweep: %s" % names)


def _orphans(site: Site, seen: Observation) -> Tuple[Worker, ...]:
    found = []
    for pid in seen.orphans:
        process = site.machine.process(pid)
        if process is not None:
            found.append(Worker(pid, process.start, False, True))
    return tuple(found)
