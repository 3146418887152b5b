"""The running master's memory compared with the disk: configuration, a failed USR2, the error log, the environment."""

import datetime
import os
import re
import stat
from typing import List, Optional

from fleet.onhost.nginx.config_files import ConfigFiles
from fleet.onhost.nginx.configuration import Configuration
from fleet.onhost.nginx.error_log import LINE, POISON
from fleet.onhost.nginx.loaded import SLACK_S, changed_since, clock, loaded_at_s
from fleet.onhost.nginx.master_paths import config_of
from fleet.onhost.preflight.listeners import workers_wanted
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import finding

TAIL_BYTES = 4 << 20


PRELOADED = re.compile(r"lib(jemalloc|tcmalloc|mimalloc|hardened_malloc|faketime|eatmydata)[^/]*\.so")


NO_FILE = ("syslog:", "memory:")


STARTED = "start new binary process"


def pending(subject: Subject) -> List[Finding]:
    """Whether a file of the configuration, or a folder that it includes files from, changed after nginx loaded it."""
    config = config_of(subject.machine, subject.old)
    if config is None or not config.files or not config.complete:
        return [finding("not_checked", what="the files of the configuration", why=_unread(config))]
    loaded_s = loaded_at_s(subject.machine, subject.old, subject.serving)
    changed = changed_since(subject.machine, subject.old.pid, config, loaded_s)
    if not changed:
        return []
    return [
        finding(
            "pending_config",
            loaded=clock(loaded_s),
            files=changed,
            pid=subject.old.pid,
        )
    ]


def _unread(config: Optional[ConfigFiles]) -> str:
    if config is None:
        return "the running binary does not say where they are (`nginx -V`)"
    return "they can't be read" if not config.files else "there are too many of them, or they are too large"


def poisoned(subject: Subject, config: Optional[Configuration], changed: bool) -> List[Finding]:
    """Whether an earlier USR2 failed, so that a reload only adds workers: shown by the record, the log or the workers."""
    old, record = subject.old, subject.record
    evidence = None
    if record is not None and record.poisoned == (old.pid, old.start):
        evidence = "fleet's record of it"
    evidence = evidence or _in_log(subject) or _in_workers(subject, config, changed)
    return [finding("poisoned", pid=old.pid, evidence=evidence)] if evidence else []


def _in_log(subject: Subject) -> Optional[str]:
    """The last line in which this master reports that it could not start a new binary, unless a later USR2 worked."""
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
    """Several complete sets of workers, none of them draining: a reload added workers without replacing any."""
    if config is None or changed or subject.old.draining:
        return None
    wanted, has = workers_wanted(subject.machine, config), len(subject.old.accepting)
    if not wanted or has <= wanted or has % wanted:
        return None
    return "%d workers where the configuration asks for %d" % (has, wanted)


def error_log(subject: Subject, config: Optional[Configuration]) -> List[Finding]:
    """Whether the new master's log can be judged: file descriptor 2 of a master is its error log.

    A master that logs only to syslog or memory keeps the descriptor that it was started with.
    """
    seen = subject.machine.stat("/proc/%d/fd/2" % subject.old.pid)
    logs = [words for words in config.error_logs if words] if config is not None else []
    elsewhere = bool(logs) and all(words[0].startswith(NO_FILE) for words in logs)
    if seen is not None and stat.S_ISREG(seen.st_mode) and not elsewhere:
        return []
    where = ", ".join("error_log " + " ".join(words) for words in logs) or "no error_log in a file"
    return [finding("no_error_log", where=where)]


def lost_environment(subject: Subject, config: Configuration) -> List[Finding]:
    """Whether the environment preloads a library. nginx clears the environment for the new master."""
    machine, old = subject.machine, subject.old
    if "LD_PRELOAD" in config.env or "/etc/ld.so.preload" in (machine.read("/proc/%d/maps" % old.pid) or ""):
        return []
    listed = machine.run((subject.image,), 10.0, env={"LD_TRACE_LOADED_OBJECTS": "1"}).output
    for line in (machine.read("/proc/%d/maps" % old.pid) or "").splitlines():
        library = line.partition("/")[2]
        if PRELOADED.search(library) and os.path.basename(library) not in listed:
            return [finding("env_lost", pid=old.pid, library="/" + library)]
    return []
