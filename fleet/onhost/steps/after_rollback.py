"""After a rollback: put right what happened to the old master while the new one lived, or warn of it.

While a new master lives, a reload or a log rotation from outside does not reach the old one, or harms it: beside a new
master HUP reads no file and adds a set of workers, USR1 by the pid file reaches only the new one, and systemd may take
the new one for the main process (docs/nginx-facts.md, sections 5, 9 and 10). No signal is still pending in the old
master: it woke up when the new one ended.
"""

import signal
from typing import Collection

from fleet.onhost.nginx.binary import complaint, dump_configuration, test_configuration
from fleet.onhost.nginx.command_line import read_command_line
from fleet.onhost.nginx.configuration import read_configuration
from fleet.onhost.nginx.loaded import changed_since
from fleet.onhost.nginx.log_files import moved_away
from fleet.onhost.observation import Master, Observation
from fleet.onhost.steps.context import StepContext, find
from fleet.onhost.steps.verify import workers_before
from fleet.onhost.system.process import Gone
from fleet.onhost.system.systemd import followed
from fleet.onhost.wire import Malformed

RELOAD_TEST_S = 60.0
RELOAD_SEEN_S = 15.0
REOPEN_SEEN_S = 3.0
FOLLOW_SEEN_S = 3.0


def put_right(context: StepContext) -> None:
    """Correct all of it. A correction that fails is only a warning, because the host is back."""
    try:
        for put_it in (_reload_if_due, _reopen_logs, _compare_main_pid):
            seen = context.look()
            if len(seen.masters) != 1 or not seen.masters[0].accepting:
                return
            put_it(context, seen.masters[0])
    except (Gone, OSError, Malformed) as error:
        context.warn("not_put_right", error=error)


def _reload_if_due(context: StepContext, old: Master) -> None:
    """Reload the old master if the configuration was reloaded while it was held, or if it has more than one set of workers.

    Its revived workers serve what it had in memory (old certificates!): HUP beside a new master reads no file. So the old
    binary tests the files, and one HUP follows. A poisoned master gets none: its HUP would only add workers.
    """
    record = context.own.record or context.record
    if record.poisoned == (old.pid, old.start):
        context.warn("still_poisoned", pid=old.pid)
    elif context.own.serving.reload_due:
        why = _why_not_reloaded(context, old)
        if why:
            context.warn("config_not_reloaded", why=why)
    elif len(old.accepting) > workers_before(context, old):
        _undouble(context, old, workers_before(context, old))


def _undouble(context: StepContext, old: Master, wanted: int) -> None:
    """Reload to one set of workers, unless the files have changed: the reload would put that change live."""
    ran = dump_configuration(context.machine, "/proc/%d/exe" % old.pid, old, context.instance.layout, RELOAD_TEST_S)
    config = read_configuration(ran.output, read_command_line(old.argv)) if ran.code == 0 else None
    changed = (
        changed_since(context.machine, config, context.own.serving.loaded_at_s or 0.0) if config is not None else ""
    )
    why = "%s changed since it was loaded" % changed if changed else _why_not_reloaded(context, old)
    if why:
        context.warn("workers_left_doubled", pid=old.pid, has=len(old.accepting), wanted=wanted, why=why)
    else:
        context.warn("workers_normal", pid=old.pid, count=wanted)


def _why_not_reloaded(context: StepContext, old: Master) -> str:
    """Test the configuration with the old binary and send one HUP. Returns why no reload was seen; empty when one was."""
    tested = test_configuration(context.machine, "/proc/%d/exe" % old.pid, old, context.instance.layout, RELOAD_TEST_S)
    if tested.code != 0:
        return "the old release rejects it: %s" % complaint(tested.output)
    context.send(old, signal.SIGHUP)
    before = {worker.pid for worker in old.accepting}
    came, _ = context.wait(lambda look: _replaced(look, old, before), RELOAD_SEEN_S)
    if not came:
        return "the master (pid %d) has not reloaded within %.0f s of HUP" % (old.pid, RELOAD_SEEN_S)
    context.remember(lambda serving: serving._replace(reload_due=False, revived=()))
    return ""


def _replaced(seen: Observation, master: Master, before: Collection[int]) -> bool:
    now = find(seen, master.pid, master.start)
    return now is not None and bool(now.accepting) and not any(worker.pid in before for worker in now.accepting)


def _reopen_logs(context: StepContext, old: Master) -> None:
    """Make the old master write to the current log files again, if they were rotated while it was held."""
    serving = context.own.serving
    if serving.master != (old.pid, old.start):
        return
    moved = moved_away(context.machine, serving.logs, _writers(old))
    if not moved:
        return
    context.send(old, signal.SIGUSR1)

    def reopened(look: Observation) -> bool:
        now = find(look, old.pid, old.start)
        return now is not None and not moved_away(context.machine, moved, _writers(now))

    came, _ = context.wait(reopened, REOPEN_SEEN_S)
    context.warn("log_reopened" if came else "log_not_reopened", paths=", ".join(moved), pid=old.pid)


def _writers(master: Master) -> Collection[int]:
    return [master.pid] + [worker.pid for worker in master.accepting]


def _compare_main_pid(context: StepContext, old: Master) -> None:
    """Warn if systemd takes another process for the main one: a reload in mid-upgrade made it follow the new master."""
    until = context.machine.monotonic_s() + FOLLOW_SEEN_S
    while True:
        shown = followed(context.machine, old.pid)
        if shown is None or shown.main_pid == old.pid:
            return
        if context.machine.monotonic_s() >= until:
            context.warn("unit_main_pid_stale", unit=shown.unit, main=shown.main_pid, pid=old.pid)
            return
        context.machine.pause(0.2)
