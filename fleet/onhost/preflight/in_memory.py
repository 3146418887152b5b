"""The running master's memory compared with the disk: configuration, the error log, the environment."""

import re
from typing import List, Optional

from fleet.onhost.nginx.config_files import ConfigFiles
from fleet.onhost.nginx.error_log import mark
from fleet.onhost.nginx.loaded import changed_since, clock, loaded_at_s
from fleet.onhost.preflight.differences import came_up
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.rehearsal.evidence import Rehearsal
from fleet.onhost.rehearsal.inherited import environment
from fleet.onhost.text import listed

MOST_SHOWN = 3
MATTERS = re.compile(r"(LD_|GLIBC_TUNABLES$|MALLOC_|MIMALLOC_|TCMALLOC_|OPENSSL_)")
"""Variables by which the loader, malloc and OpenSSL are set up at the start of a process."""


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


def error_log(subject: Subject, config: Optional[ConfigFiles], rehearsal: Optional[Rehearsal]) -> List[Finding]:
    """Whether the new master's log can be judged. Without a rehearsal the running master's log shows that."""
    new = came_up(rehearsal.new) if rehearsal is not None else None
    path = new.error_log if new is not None else mark(subject.machine, subject.old.pid).path
    if path is not None:
        return []
    elsewhere = [one.rstrip(";") for one in config.statements("error_log")] if config is not None else []
    return [finding("no_error_log", where=listed(elsewhere, MOST_SHOWN) or "no error_log in a file")]


def lost_environment(subject: Subject, config: Optional[ConfigFiles], rehearsal: Optional[Rehearsal]) -> List[Finding]:
    """Whether nginx was started with variables that change what it loads, and that the new master would not get."""
    new, old = (came_up(one) for one in (rehearsal.new, rehearsal.old)) if rehearsal is not None else (None, None)
    if new is not None and old is not None:
        lost = set(old.environment) - set(new.environment)
    else:
        kept = config.values("env") if config is not None else ()
        lost = set(environment(subject.machine, subject.old.pid)) - {one.partition("=")[0] for one in kept}
    names = sorted(name for name in lost if MATTERS.match(name))
    return [finding("env_lost", pid=subject.old.pid, variables=", ".join(names))] if names else []
