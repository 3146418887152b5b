"""After a rollback: put right what happened to the old master while the new one lived, or warn of it.

While a new master lives, a reload or a log rotation from outside does not reach the old one, or harms it: beside a new
master HUP reads no file and adds a set of workers, and USR1 by the pid file reaches only the new one
(docs/nginx-facts.md, sections 5 and 9). No signal is still pending in the old master: it woke up when the new one ended.
"""

import signal
from typing import Collection, Optional

from fleet.onhost.nginx.error_log import lines_since, mark, rejection
from fleet.onhost.nginx.loaded import changed_since
from fleet.onhost.nginx.log_files import moved_away
from fleet.onhost.nginx.master_paths import config_of
from fleet.onhost.observation import Master, Observation
from fleet.onhost.steps.context import StepContext, find
from fleet.onhost.steps.verify import workers_before
from fleet.onhost.system.process import Gone
from fleet.onhost.wire import Malformed

RELOAD_SEEN_S = 15.0
REJECTED_SEEN_S = 3.0
"""Seconds that a reload may still succeed after a line of level `emerg`: nginx tries a listener that is taken for 2.5 s."""
REOPEN_SEEN_S = 3.0


def put_right(context: StepContext, last_look: Optional[Observation]) -> None:
    """Correct all of it. A correction that fails is only a warning, because the host is back.

    Nothing was done since the last look.
    """
    try:
        seen = last_look or context.look()
        for put_it in (_reload_if_due, _reopen_logs, _say_deleted):
            if len(seen.masters) != 1 or not seen.masters[0].accepting:
                return
            if put_it(context, seen.masters[0]):
                seen = context.look()
    except (Gone, OSError, Malformed) as error:
        context.warn("not_put_right", error=error)


def _reload_if_due(context: StepContext, old: Master) -> bool:
    """Reload the old master if the configuration was reloaded while it was held, or if it has more than one set of workers.
    Whether it was due.

    Its revived workers serve what it had in memory (old certificates!): HUP beside a new master reads no file. So one HUP
    follows. A poisoned master gets none: its HUP would only add workers.
    """
    record = context.own.record or context.record
    if record.poisoned == (old.pid, old.start):
        context.warn("still_poisoned", pid=old.pid)
        return False
    if context.own.serving.reload_due:
        why = _why_not_reloaded(context, old)
        if why:
            context.warn("config_not_reloaded", why=why)
        return True
    wanted = workers_before(context, old)
    if len(old.accepting) <= wanted:
        return False
    _undouble(context, old, wanted)
    return True


def _undouble(context: StepContext, old: Master, wanted: int) -> None:
    """Reload to one set of workers, unless the files have changed: the reload would put that change live."""
    why = _changed(context, old) or _why_not_reloaded(context, old)
    if why:
        context.warn("workers_left_doubled", pid=old.pid, has=len(old.accepting), wanted=wanted, why=why)
    else:
        context.warn("workers_normal", pid=old.pid, count=wanted)


def _changed(context: StepContext, old: Master) -> str:
    """What changed in the configuration since the master loaded it; empty when nothing did."""
    config = config_of(context.machine, old)
    if config is None or not config.files:
        return "its configuration can't be read, so a change since it was loaded would not be seen"
    changed = changed_since(context.machine, old.pid, config, context.own.serving.loaded_at_s or 0.0)
    return "%s changed since it was loaded" % changed if changed else ""


def _why_not_reloaded(context: StepContext, old: Master) -> str:
    """Send one HUP. Returns why no reload was seen; empty when one was.

    nginx itself tests the files, and keeps what it has in memory when it rejects them (`ngx_master_process_cycle`).
    """
    start = mark(context.machine, old.pid)
    before = {worker.pid for worker in old.accepting}

    def rejected() -> Optional[str]:
        return rejection(lines_since(context.machine, start, (old.pid,)) or (), old.pid)

    def replaced(look: Observation) -> bool:
        return _replaced(look, old, before)

    context.send(old, signal.SIGHUP)
    _, now = context.wait(lambda look: replaced(look) or rejected() is not None, RELOAD_SEEN_S)
    if not replaced(now) and not (rejected() and context.wait(replaced, REJECTED_SEEN_S)[0]):
        why = rejected()
        waited = "the master (pid %d) has not reloaded within %.0f s of HUP" % (old.pid, RELOAD_SEEN_S)
        return "the old release rejects it: %s" % why if why else waited
    context.remember(lambda serving: serving._replace(reload_due=False, revived=()))
    return ""


def _replaced(seen: Observation, master: Master, before: Collection[int]) -> bool:
    now = find(seen, master.pid, master.start)
    return now is not None and bool(now.accepting) and not any(worker.pid in before for worker in now.accepting)


def _reopen_logs(context: StepContext, old: Master) -> bool:
    """Make the old master write to the current log files again, if they were rotated while it was held. Whether they were."""
    serving = context.own.serving
    if serving.master != (old.pid, old.start):
        return False
    moved = moved_away(context.machine, serving.logs, _writers(old))
    if not moved:
        return False
    context.send(old, signal.SIGUSR1)

    def reopened(look: Observation) -> bool:
        now = find(look, old.pid, old.start)
        return now is not None and not moved_away(context.machine, moved, _writers(now))

    came, _ = context.wait(reopened, REOPEN_SEEN_S)
    context.warn("log_reopened" if came else "log_not_reopened", paths=", ".join(moved), pid=old.pid)
    return True


def _writers(master: Master) -> Collection[int]:
    return [master.pid] + [worker.pid for worker in master.accepting]


def _say_deleted(context: StepContext, old: Master) -> bool:
    """Warn if the name by which the master was executed is lost: the file system could not exchange it, or it was removed."""
    if context.machine.image_is_deleted(old.pid):
        context.warn("image_deleted", pid=old.pid)
    return False
