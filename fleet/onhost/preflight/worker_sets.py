"""The running workers compared with those of a new master: is the master poisoned, or has the host other processors now?

Each reload of a poisoned master adds a complete set of workers (docs/nginx-facts.md, section 3). More workers than the
host has processors are no such set: with `worker_processes auto` they were counted when nginx was started.
"""

import datetime
import stat
from typing import List, Optional

from fleet.onhost.nginx.config_files import ConfigFiles
from fleet.onhost.nginx.error_log import LINE, POISON
from fleet.onhost.nginx.loaded import SLACK_S
from fleet.onhost.nginx.worker_count import WorkerCount, worker_count
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import finding

TAIL_BYTES = 4 << 20
STARTED = "start new binary process"
BETWEEN_SETS_TICKS = 50
"""A set of workers is forked within milliseconds; a tick is 0.01 s."""


def judged(subject: Subject, files: Optional[ConfigFiles], is_changed: bool) -> List[Finding]:
    """Whether the master is poisoned, or else whether a new one will have another number of workers.

    A configuration that has changed, and workers that drain, tell nothing about the number.
    """
    counts = not is_changed and not subject.old.draining
    binary = subject.staged or subject.image
    wanted = worker_count(subject.machine, subject.old, files, binary) if counts else None
    evidence = _recorded(subject) or _in_log(subject) or (_in_workers(subject, wanted) if wanted else None)
    if evidence:
        return [finding("poisoned", pid=subject.old.pid, evidence=evidence)]
    has = len(subject.old.accepting)
    if wanted is None or not wanted.by_processors or has in (0, wanted.number):
        return []
    return [finding("processors_changed", pid=subject.old.pid, has=has, processors=wanted.number)]


def poisoned_since(subject: Subject, since_byte: int) -> List[Finding]:
    """Whether the log shows that the master was poisoned after this place in it."""
    evidence = _in_log(subject, since_byte)
    return [finding("poisoned", pid=subject.old.pid, evidence=evidence)] if evidence else []


def _recorded(subject: Subject) -> Optional[str]:
    old, record = subject.old, subject.record
    return "fleet's record of it" if record is not None and record.poisoned == (old.pid, old.start) else None


def _in_log(subject: Subject, since_byte: int = 0) -> Optional[str]:
    """The last line in which this master reports that it could not start a new binary, unless a later USR2 worked."""
    machine, old = subject.machine, subject.old
    path = "/proc/%d/fd/2" % old.pid
    seen = machine.stat(path)
    if seen is None or not stat.S_ISREG(seen.st_mode):
        return None
    try:
        tail = machine.read_from(path, max(since_byte, seen.st_size - TAIL_BYTES), TAIL_BYTES).decode(
            "utf-8", "replace"
        )
    except OSError:
        return None
    began = datetime.datetime.fromtimestamp(machine.began_s(old.start) - SLACK_S).strftime("%Y/%m/%d %H:%M:%S")
    evidence = None
    for line in tail.splitlines():
        matched = LINE.match(line)
        if not matched or int(matched.group(2)) != old.pid or line < began:
            continue
        if any(word in line for word in POISON):
            evidence = "its log: " + line
        elif matched.group(3).startswith(STARTED):
            evidence = None
    return evidence


def _in_workers(subject: Subject, wanted: WorkerCount) -> Optional[str]:
    """Several complete sets of workers: a reload added workers without replacing any."""
    has = len(subject.old.accepting)
    if wanted.by_processors:
        sets = _sets(subject)
        is_doubled = len(sets) > 1 and len(set(sets)) == 1 and sets[0] > 1
        return "%d sets of %d workers" % (len(sets), sets[0]) if is_doubled else None
    if not wanted.number or has <= wanted.number or has % wanted.number:
        return None
    return "%d workers where the configuration asks for %d" % (has, wanted.number)


def _sets(subject: Subject) -> List[int]:
    """The sizes of the groups of workers that were started at one time, oldest first."""
    sets: List[int] = []
    last = None
    for start in sorted(worker.start for worker in subject.old.accepting):
        if last is None or start - last > BETWEEN_SETS_TICKS:
            sets.append(0)
        sets[-1] += 1
        last = start
    return sets
