"""`launch`: the old master starts a second one, its child, with the new binary. If it does not, find out why.

A failed USR2 leaves the old master serving as before, except for two causes that poison it (`nginx/start_failures.py`). So the
pid file is checked first, and nothing else: a configuration test by root would change the files of a master that is not
root (docs/nginx-facts.md, section 4), and refuse an address that the new master inherits. Three causes get one second try: a
file still open for writing is waited for; a file that may not be executed gets the old file's owner, mode and labels; a pid
file that was removed just then is written again.
"""

import os
import signal
from typing import NamedTuple, Optional

from fleet.onhost.nginx.error_log import Mark, lines_since, mark
from fleet.onhost.nginx.loaded import loaded_at_s
from fleet.onhost.nginx.log.baseline import baseline_of, said_before
from fleet.onhost.nginx.log_files import written_by
from fleet.onhost.nginx.master_paths import config_of, pid_path
from fleet.onhost.nginx.observe import beside
from fleet.onhost.nginx.signals import hearing
from fleet.onhost.nginx.start_failures import Cause, Repair, is_ignored, why_not_run, why_not_started
from fleet.onhost.nginx.worker_count import worker_count
from fleet.onhost.observation import Master, Observation
from fleet.onhost.state.known_lines import Baseline
from fleet.onhost.state.store import Serving
from fleet.onhost.steps.context import StepContext, StepError, StepFailed, StepRefused, find, identities
from fleet.onhost.steps.forward import must_hear, path_of
from fleet.onhost.steps.probe_verdict import ask_before_launch
from fleet.onhost.steps.unit_follows import unit_that_started

LAUNCH_SEEN_S = 5.0
READING_S = 60.0
"""Seconds that a new master has to read its configuration, to resolve the names in it and to try a listener that is taken."""
RUN_TIMEOUT_S = 20.0
BUSY_PATIENCE_S = 15.0
BUSY_POLL_S = 0.2
BUSY = "[Errno 26]"


class Start(NamedTuple):
    """One USR2: the master it goes to, and the pid file and the end of the log before it."""

    old: Master
    before: Optional[os.stat_result]
    log: Mark


class NotLaunched(NamedTuple):
    """The error of one try, and the repair that may remove its cause."""

    error: StepError
    repair: Optional[Repair] = None


def launch(context: StepContext, seen: Observation) -> None:
    """Start a second master that runs the target. Both pid files name theirs afterwards."""
    if len(seen.masters) == 2:
        return
    must_hear(seen.masters[0])
    _must_hear_signals(context, seen.masters[0])
    ask_before_launch(context, seen.masters[0])
    _name_the_master(context, seen)
    failure = _try(context, seen)
    if failure is not None and _repaired(context, seen, failure.repair):
        context.go_on()
        failure = _try(context, context.look())
    if failure is not None:
        raise failure.error
    _is_cured(context, seen.masters[0])


def _must_hear_signals(context: StepContext, old: Master) -> None:
    """Raises `StepRefused` if USR2 would stay pending in the master, or end it: no signal can be taken back."""
    hears = hearing(context.machine, old.pid)
    if hears.pending:
        raise StepRefused("signal_pending", pid=old.pid, signals=", ".join(hears.pending))
    if hears.unheard:
        raise StepRefused("signals_unheard", pid=old.pid, signals=hears)


def _name_the_master(context: StepContext, seen: Observation) -> None:
    """Make the pid file name the master. Preflight refuses an upgrade where it does not; a rollback must get through, and
    with a missing pid file USR2 would poison the master.
    """
    old = seen.masters[0]
    if seen.pid_file and seen.pid_file_pid != old.pid:
        context.warn("pid_file_rewritten", path=seen.pid_file, held=seen.pid_file_pid or "no pid", pid=old.pid)
        context.machine.write(seen.pid_file, "%d\n" % old.pid, mode=0o644)


def _try(context: StepContext, seen: Observation) -> Optional[NotLaunched]:
    """Send USR2. `None` when the new master is there, else why it is not.

    A child that lives gets more time: it may still read its configuration.
    """
    old = seen.masters[0]
    before = context.machine.stat(seen.pid_file) if seen.pid_file else None
    start = Start(old, before, mark(context.machine, old.pid))
    _remember(context, start, path_of(seen), unit_that_started(context.instance, seen))
    context.send(old, signal.SIGUSR2)
    came, now = context.wait(lambda look: _is_over(context, look, start), LAUNCH_SEEN_S)
    if not came and _starting(context, old):
        came, now = context.wait(lambda look: _is_over(context, look, start) or not _starting(context, old), READING_S)
    return None if _launched(context, now, old) else _why_not(context, now, start, came)


def _remember(context: StepContext, start: Start, binary: str, unit: Optional[str]) -> None:
    """Note what later visits can no longer see. Raises OSError: without this note nothing begins."""
    old, log = start.old, start.log
    context.own.write_serving(
        Serving(
            old.argv,
            log.path,
            log.inode,
            log.offset,
            loaded_at_s(context.machine, old, context.own.serving),
            revived=identities(old.accepting),
            master=(old.pid, old.start),
            workers=len(old.accepting),
            wanted=_wanted(context, old, binary),
            logs=written_by(context.machine, old.pid),
            baseline=_baseline(context, old),
            unit=unit,
        )
    )


def _wanted(context: StepContext, old: Master, binary: str) -> int:
    """How many workers the new master starts; 0 if the configuration does not tell."""
    found = worker_count(context.machine, old, config_of(context.machine, old), binary)
    return found.number if found else 0


def _baseline(context: StepContext, old: Master) -> Baseline:
    """What the running release writes: to its log and, with this very master, in a rehearsal. A release that comes back may
    also write what it wrote before the upgrade: that is no reason to stay on a bad one.
    """
    own = context.own
    rehearsed = own.rehearsed
    more = rehearsed.lines if rehearsed is not None and rehearsed.master == (old.pid, old.start) else ()
    if context.target == context.record.before_process != context.record.target:
        more += said_before(own.serving.baseline)
    return baseline_of(context.machine, old, more)


def _is_over(context: StepContext, now: Observation, start: Start) -> bool:
    return (
        _launched(context, now, start.old)
        or _given_up(context, now, start)
        or _elsewhere(context, now, start.old) is not None
    )


def _launched(context: StepContext, now: Observation, old: Master) -> bool:
    new = _child(context, now, old)
    return new is not None and (now.pid_file_pid, now.oldbin_pid) == (new.pid, old.pid)


def _child(context: StepContext, now: Observation, old: Master) -> Optional[Master]:
    """The old master's child that runs the target."""
    if len(now.masters) != 2 or find(now, old.pid, old.start) is None:
        return None
    new = now.masters[1]
    return new if (new.ppid, new.sha256) == (old.pid, context.target) else None


def _elsewhere(context: StepContext, now: Observation, old: Master) -> Optional[Master]:
    """A new master that has workers but another pid file: nginx writes the pid file before it forks workers."""
    new = _child(context, now, old)
    return new if new is not None and new.accepting and now.pid_file_pid != new.pid else None


def _given_up(context: StepContext, now: Observation, start: Start) -> bool:
    """Whether the attempt has failed. nginx renames the pid file away and back: its changed ctime is the only trace."""
    old, before = start.old, start.before
    if len(now.masters) != 1 or now.pid_file_pid != old.pid or now.oldbin_exists or before is None:
        return False
    after = context.machine.stat(now.pid_file or "")
    return after is not None and after.st_ctime_ns != before.st_ctime_ns and not _starting(context, old)


def _starting(context: StepContext, old: Master) -> bool:
    """Whether the old master has a child that may yet become the new one."""
    known = {worker.pid for worker in old.workers}
    return any(
        process.ppid == old.pid
        and process.pid not in known
        and "worker process" not in process.title
        and "cache" not in process.title
        for process in context.machine.processes()
    )


def _why_not(context: StepContext, now: Observation, start: Start, came: bool) -> NotLaunched:
    old = start.old
    elsewhere = _elsewhere(context, now, old)
    if elsewhere is not None:
        other = pid_path(context.machine, elsewhere) or "another file"
        return NotLaunched(StepFailed("other_pid_file", pid=elsewhere.pid, other=other, path=now.pid_file))
    lines = lines_since(context.machine, start.log, (old.pid,)) or []
    workers = [worker.pid for worker in old.workers]
    known = [one.kind for one in context.own.serving.baseline.lines]
    cause = why_not_started(lines, old.pid, workers, path_of(now), now.pid_file or "", known)
    if cause is None and came:
        cause = _does_it_run(context, path_of(now))
    if cause is None:
        return NotLaunched(_unexplained(context, now, start, came, is_ignored(lines, old.pid)))
    if cause.poisons:
        context.amend(lambda record: record._replace(poisoned=(old.pid, old.start)))
    return NotLaunched(StepFailed(cause.word, **cause.facts), cause.repair)


def _does_it_run(context: StepContext, path: str) -> Optional[Cause]:
    """Why the file can't be executed, for a master whose log fleet can't read. `-v` opens no file of nginx's."""
    return why_not_run(context.machine.run((path, "-v"), RUN_TIMEOUT_S), path)


def _unexplained(
    context: StepContext, now: Observation, start: Start, came: bool, ignored: Optional[str]
) -> StepFailed:
    """The failure where the log tells no cause."""
    if came:
        return StepFailed("launch_failed", line="it exited at once, and its log has no reason")
    if len(now.masters) == 2:
        return StepFailed("launch_slow", pid=now.masters[1].pid, waited=LAUNCH_SEEN_S + READING_S)
    hears = hearing(context.machine, start.old.pid, (signal.SIGUSR2,))
    if hears.pending or hears.unheard:
        why = "USR2 is %s there" % (hears.unheard.get("USR2") or "pending")
        return StepFailed("usr2_pending", pid=start.old.pid, waited=LAUNCH_SEEN_S, why=why, path=path_of(now))
    line = ignored or "its log has no reason"
    return StepFailed("usr2_ignored", pid=start.old.pid, waited=LAUNCH_SEEN_S, line=line)


def _repaired(context: StepContext, seen: Observation, repair: Optional[Repair]) -> bool:
    """Whether the cause has been removed, so that a second try makes sense."""
    if repair is Repair.MAKE_EXECUTABLE:
        return _made_executable(context, seen)
    if repair is Repair.WAIT_FOR_WRITERS:
        return _closed(context, path_of(seen))
    if repair is Repair.WRITE_PID_FILE:
        return _pid_file_is_back(context, seen.masters[0])
    return False


def _pid_file_is_back(context: StepContext, old: Master) -> bool:
    """Whether the pid file was gone and has been written again. A new master that then starts cures the poisoned one."""
    now = context.look()
    if len(now.masters) != 1 or now.pid_file_pid is not None:
        return False
    try:
        _name_the_master(context, now)
    except OSError:
        return False
    return find(now, old.pid, old.start) is not None


def _made_executable(context: StepContext, seen: Observation) -> bool:
    """Whether a fresh copy, with owner, mode, labels and capabilities of the running image, is at the path now."""
    path, running = path_of(seen), "/proc/%d/exe" % seen.masters[0].pid
    fresh = beside(path, "new")
    try:
        context.machine.unlink(fresh)
        context.machine.copy(context.store.release(context.target), fresh, like=running)
        context.machine.rename(fresh, path)
    except OSError:
        context.machine.unlink(fresh)
        return False
    context.warn("file_mended", path=path)
    return True


def _closed(context: StepContext, path: str) -> bool:
    """Whether the file was closed by every writer within `BUSY_PATIENCE_S`."""
    until = context.machine.monotonic_s() + BUSY_PATIENCE_S
    while True:
        ran = context.machine.run((path, "-v"), RUN_TIMEOUT_S)
        if not ran.output.startswith(BUSY):
            context.warn("text_was_busy", path=path)
            return True
        if context.machine.monotonic_s() >= until:
            return False
        context.go_on()
        context.machine.pause(BUSY_POLL_S)


def _is_cured(context: StepContext, old: Master) -> None:
    """Note that a poisoned master is cured: it has started a new one since (docs/nginx-facts.md, section 3)."""
    record = context.own.record
    if record is not None and record.poisoned == (old.pid, old.start):
        context.amend(lambda record: record._replace(poisoned=None))
