"""The running master's memory compared with the disk: the configuration, the error log, the environment."""

import os
import re
import stat
from typing import List, Optional

from fleet.onhost.nginx.config_files import ConfigFiles
from fleet.onhost.nginx.configuration import Configuration
from fleet.onhost.nginx.loaded import changed_since, clock, loaded_at_s
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import finding

PRELOADED = re.compile(r"lib(jemalloc|tcmalloc|mimalloc|hardened_malloc|faketime|eatmydata)[^/]*\.so")


NO_FILE = ("syslog:", "memory:")


def pending(subject: Subject, config: Optional[ConfigFiles]) -> List[Finding]:
    """Whether a file of the configuration, or a folder that it includes files from, changed after nginx loaded it."""
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
