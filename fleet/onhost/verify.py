"""Is the new master good enough to be left alone with the users?

Before `drain` nothing costs capacity, but from `launch` on about half of the new connections meet the new release. So:
probe first, settle after, and give up at the first bad sign. Signs are the workers (as many as the old master's, the
same ones for the settle time), their answers to the probes, the log, and every listening socket of the old master in
the hands of the new workers (nginx-upgrade.md, 4.1 and 6).
"""

from typing import FrozenSet, Optional, Tuple

from fleet.onhost.log import Mark, bad_lines, lines_since
from fleet.onhost.probe import ask
from fleet.onhost.protocol import Finding, Master, Observation, Record, Severity, State
from fleet.onhost.record import Serving
from fleet.onhost.site import Site, StepFailed, accepting, find, identities, pair

WORKERS_SEEN_S = 5.0
SETTLE_POLL_S = 0.05


def verify(site: Site, seen: Observation) -> None:
    """The new master is verified, for this visit. Raises `StepFailed` at the first bad sign."""
    old, new = pair(seen)
    wanted = max(1, len(old.accepting))
    now = site.wait(lambda look: len(accepting(look, new)) >= wanted or bool(_bad(site, look, new)), WORKERS_SEEN_S)[1]
    _must_be_clean(site, now, new)
    if len(accepting(now, new)) < wanted:
        raise _too_few(now, new, wanted)
    workers = _pids(now, new)
    probe(site, workers)
    _settle(site, new, workers)
    seen = site.look()
    _must_cover(site, seen, old, new)
    _remember(site, seen, new)
    if not site.options.probes:
        site.warn("no_probes", "nothing was asked of the new workers", "Add fleet_probes to the inventory.")


def confirm(site: Site, seen: Observation) -> None:
    """The one master, which no visit has verified, is verified now: the host was booted with the new release, or its
    old master died before the verdict. Raises `StepFailed` at the first bad sign.
    """
    new = seen.masters[0]
    now = site.wait(lambda look: bool(accepting(look, new)) or bool(_bad(site, look, new)), WORKERS_SEEN_S)[1]
    _must_be_clean(site, now, new)
    if not accepting(now, new):
        raise _too_few(now, new, 1)
    workers = _pids(now, new)
    probe(site, workers)
    _settle(site, new, workers)
    _remember(site, site.look(), new)


def _remember(site: Site, seen: Observation, new: Master) -> None:
    workers = identities(accepting(seen, new))
    site.remember(lambda serving: serving._replace(verified=workers, verified_master=(new.pid, new.start)))


def is_unconfirmed(seen: Observation, record: Optional[Record], serving: Serving) -> bool:
    """Whether the release of the record serves alone, by a master that no visit has verified."""
    if record is None or record.state is not State.BEGUN or len(seen.masters) != 1:
        return False
    master = seen.masters[0]
    return master.sha256 == record.target and (master.pid, master.start) != serving.verified_master


def _too_few(seen: Observation, new: Master, wanted: int) -> StepFailed:
    now = find(seen, new.pid, new.start)
    if now is None:
        return StepFailed("new_master_died", "the new master (pid %d) has ended" % new.pid)
    if now.stopped:
        return StepFailed("new_master_hangs", "the new master (pid %d) is stopped" % new.pid)
    hung = sum(1 for worker in now.workers if not worker.ready)
    what = "%d of them hang before they serve" % hung if hung else "the others are not there"
    return StepFailed(
        "workers_missing",
        "the new master has %d serving worker(s) after %.0f s, the old one %d; %s"
        % (len(now.accepting), WORKERS_SEEN_S, wanted, what),
    )


def _pids(seen: Observation, new: Master) -> FrozenSet[int]:
    return frozenset(worker.pid for worker in accepting(seen, new))


def probe(site: Site, workers: FrozenSet[int]) -> None:
    """Every probe is answered rightly by one of these workers. Raises `StepFailed`."""
    for one in site.options.probes:
        answer = ask(site.machine, one, workers)
        if answer.trouble:
            raise StepFailed("probe_failed", answer.trouble)


def _settle(site: Site, new: Master, workers: FrozenSet[int]) -> None:
    until = site.machine.monotonic_s() + site.options.settle_s
    while True:
        site.go_on()
        now = site.look()
        _must_be_clean(site, now, new)
        if _pids(now, new) != workers:
            raise StepFailed("workers_changed", "workers of the new master came and went while it settled")
        if site.machine.monotonic_s() >= until:
            break
        site.machine.pause(SETTLE_POLL_S)
    probe(site, workers)
    _must_be_clean(site, site.look(), new)


def _must_be_clean(site: Site, seen: Observation, new: Master) -> None:
    lines = _bad(site, seen, new)
    if lines:
        raise StepFailed("log_bad", "the new release wrote to the error log: " + " / ".join(lines[:3]))


def _bad(site: Site, seen: Observation, new: Master) -> Tuple[str, ...]:
    return evidence(site, seen, new) or ()


def evidence(site: Site, seen: Observation, new: Master) -> Optional[Tuple[str, ...]]:
    """The bad log lines of this master and its workers since `launch`, or `None` when there is no log to read."""
    serving = site.own.serving
    start = Mark(serving.log_path, serving.log_inode, serving.log_offset)
    lines = lines_since(site.machine, start, [master.pid for master in seen.masters])
    if lines is None:
        return None
    now = find(seen, new.pid, new.start)
    return bad_lines(lines, [new.pid] + [worker.pid for worker in (now or new).workers])


def _must_cover(site: Site, seen: Observation, old: Master, new: Master) -> None:
    """The union over the new workers counts: some builds close, in each worker, the sockets that are not its own."""
    now = find(seen, old.pid, old.start)
    held = {inode for pid in _pids(seen, new) for inode in site.machine.socket_inodes(pid)}
    missing = set(now.listeners if now else ()) - held
    if missing:
        every = site.machine.listeners(old.pid)
        names = sorted("%s %s" % (every[one].kind, every[one].address) for one in missing if one in every)
        raise StepFailed(
            "listeners_uncovered",
            "the new workers do not hold %s: clients would hang there once the old workers are gone" % ", ".join(names),
            "Use the same configuration for both releases.",
        )


def look_after(site: Site, seen: Observation) -> None:
    """The bake's look: the serving release still answers and its log is clean. Raises `StepFailed`; changes nothing."""
    new = seen.masters[-1]
    workers = frozenset(worker.pid for worker in new.accepting)
    if len(seen.masters) == 2:
        _must_cover(site, seen, seen.masters[0], new)
        if seen.masters[0].accepting:
            site.warn(
                "old_revived", "workers of the old master accept again: somebody reloaded it", "Commit drains them."
            )
    lines = evidence(site, seen, new)
    if lines is None:
        site.say(Finding("no_error_log", Severity.WARNING, "there is no readable error log to judge by", ""))
    elif lines:
        raise StepFailed("log_bad", "the new release wrote to the error log: " + " / ".join(lines[:3]))
    probe(site, workers)
