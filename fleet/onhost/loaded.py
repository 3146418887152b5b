"""What the running master has loaded, against what lies on the disk by now.

Nothing prints a master's memory. But a reload forks new workers, so the oldest worker that isn't draining is about as
old as the configuration in memory, and a file whose ctime is later has been changed since: ctime, because a deployment
may set back the time of last change.
"""

import datetime
import os
import re
import shlex
import stat
from typing import List, Optional

from fleet.onhost.command import grouped
from fleet.onhost.configuration import Configuration
from fleet.onhost.listening import workers_wanted
from fleet.onhost.log import LINE, POISON
from fleet.onhost.machine import Machine
from fleet.onhost.protocol import Finding, Master
from fleet.onhost.reasons import finding
from fleet.onhost.record import Serving
from fleet.onhost.subject import Subject

SLACK_S = 0.03  # a start is known to a tick, a ctime to another; a longer one would hide a change right after a reload
TAIL_BYTES = 4 << 20
MOST_NAMED = 5
PRELOADED = re.compile(r"lib(jemalloc|tcmalloc|mimalloc|hardened_malloc|faketime|eatmydata)[^/]*\.so")
NO_FILE = ("syslog:", "memory:")
STARTED = "start new binary process"


def loaded_at_s(machine: Machine, old: Master, serving: Serving) -> float:
    """When the master loaded its configuration, in seconds since 1970.

    Workers that were revived beside a new master are younger than what they serve: HUP did not read the files then.
    """
    living = [worker for worker in old.workers if not worker.draining]
    if serving.loaded_at_s is not None and {(worker.pid, worker.start) for worker in living} & set(serving.revived):
        return serving.loaded_at_s
    return machine.began_s(min([worker.start for worker in living] or [old.start]))


def pending(subject: Subject, config: Configuration) -> List[Finding]:
    """Whether a file of the configuration, or a folder that it takes files from, was changed since it was loaded."""
    loaded_s = loaded_at_s(subject.machine, subject.old, subject.serving)
    changed = changed_since(subject.machine, config, loaded_s)
    if not changed:
        return []
    return [
        finding(
            "pending_config",
            loaded=_clock(loaded_s),
            files=changed,
            program=" ".join(shlex.quote(word) for word in grouped(subject.old.argv)),
            pid=subject.old.pid,
        )
    ]


def changed_since(machine: Machine, config: Configuration, loaded_s: float) -> str:
    """The files of the configuration that were changed after that, and when, in words; empty when none was."""
    folders = {
        os.path.dirname(pattern) for pattern in config.patterns if re.search(r"[*?\[]", os.path.basename(pattern))
    }
    changed = []
    for path in config.files + tuple(sorted(folders)):
        seen = machine.stat(path)
        if seen is None:
            continue
        at_s = seen.st_mtime if stat.S_ISDIR(seen.st_mode) else seen.st_ctime
        if at_s > loaded_s + SLACK_S:
            changed.append("%s (%s)" % (path, _clock(at_s)))
    more = " and %d more" % (len(changed) - MOST_NAMED) if len(changed) > MOST_NAMED else ""
    return ", ".join(changed[:MOST_NAMED]) + more


def _clock(at_s: float) -> str:
    return datetime.datetime.fromtimestamp(at_s).strftime("%Y-%m-%d %H:%M:%S")


def poisoned(subject: Subject, config: Optional[Configuration], changed: bool) -> List[Finding]:
    """Whether an earlier USR2 has failed so that reloads only add workers: by the record, the log, or the workers."""
    old, record = subject.old, subject.record
    evidence = None
    if record is not None and record.poisoned == (old.pid, old.start):
        evidence = "fleet's record of it"
    evidence = evidence or _in_log(subject) or _in_workers(subject, config, changed)
    return [finding("poisoned", pid=old.pid, evidence=evidence)] if evidence else []


def _in_log(subject: Subject) -> Optional[str]:
    """The last line by which this master said that it could not start a new binary, unless it could later."""
    machine, old = subject.machine, subject.old
    path = "/proc/%d/fd/2" % old.pid
    seen = machine.stat(path)
    if seen is None or not stat.S_ISREG(seen.st_mode):
        return None
    try:
        tail = machine.read_from(path, max(0, seen.st_size - TAIL_BYTES), TAIL_BYTES).decode("utf-8", "replace")
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


def _in_workers(subject: Subject, config: Optional[Configuration], changed: bool) -> Optional[str]:
    """Several full sets of workers, none of them draining: a reload that was none."""
    if config is None or changed or subject.old.draining:
        return None
    wanted, has = workers_wanted(subject.machine, config), len(subject.old.accepting)
    if not wanted or has <= wanted or has % wanted:
        return None
    return "%d workers where the configuration asks for %d" % (has, wanted)


def error_log(subject: Subject, config: Optional[Configuration]) -> List[Finding]:
    """Whether the new master can be judged by what it writes: file descriptor 2 of a master is its error log.

    Unless it logs to syslog or memory alone: then the descriptor is still that of whoever started it.
    """
    seen = subject.machine.stat("/proc/%d/fd/2" % subject.old.pid)
    logs = [words for words in config.error_logs if words] if config is not None else []
    elsewhere = bool(logs) and all(words[0].startswith(NO_FILE) for words in logs)
    if seen is not None and stat.S_ISREG(seen.st_mode) and not elsewhere:
        return []
    where = ", ".join("error_log " + " ".join(words) for words in logs) or "no error_log in a file"
    return [finding("no_error_log", where=where)]


def lost_environment(subject: Subject, config: Configuration) -> List[Finding]:
    """Whether a library was put before others by the environment, which nginx clears for the new master."""
    machine, old = subject.machine, subject.old
    if "LD_PRELOAD" in config.env or "/etc/ld.so.preload" in (machine.read("/proc/%d/maps" % old.pid) or ""):
        return []
    listed = machine.run((subject.image,), 10.0, env={"LD_TRACE_LOADED_OBJECTS": "1"}).output
    for line in (machine.read("/proc/%d/maps" % old.pid) or "").splitlines():
        library = line.partition("/")[2]
        if PRELOADED.search(library) and os.path.basename(library) not in listed:
            return [finding("env_lost", pid=old.pid, library="/" + library)]
    return []
