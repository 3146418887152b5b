"""What the stage of this rollout found, and whether that still holds when the upgrade comes.

Stage tries the release and reads the configuration; the upgrade would only do it again. So the host keeps what stage found
together with all that it follows from: the master and its workers, the options, and each file's device, inode, size and
times. If any of that is not the same any more, or is old, the upgrade does it all again. What costs little (pid file,
disks, memory, the unit, the probes) is not kept: each preflight looks at it.
"""

import hashlib
import os
import re
import stat
import sys
from contextlib import suppress
from typing import Iterable, List, NamedTuple, Optional, Set, Tuple

from fleet.onhost.nginx.binary import read_elf
from fleet.onhost.nginx.command_line import under
from fleet.onhost.nginx.config_files import ConfigFiles, Seen
from fleet.onhost.nginx.log_files import written_by
from fleet.onhost.nginx.worker_count import ONLINE
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Ask, Finding, Step
from fleet.onhost.rehearsal.evidence import Rehearsal
from fleet.onhost.wire import encode

EARLIER = "preflight.json"
HOLDS_S = 3600.0
MOST_FILES = 20000
LIBRARIES = "/etc/ld.so.cache"
"""It is written anew by every change of the host's libraries (ldconfig(8))."""
NAME = re.compile(r"[^\s;{}\"']*[./][^\s;{}\"']*")
"""A word of a configuration that may name a file: a certificate, a key, a module, a script."""


class Earlier(NamedTuple):
    """What stage found. `of` is the hash of what was judged, `files` each file's path and identity, `at_s` CLOCK_BOOTTIME.

    `log` is inode and size of the master's error log at that time.
    """

    boot_id: str
    at_s: float
    of: str
    files: Tuple[Tuple[str, str], ...]
    log: Tuple[int, int]
    findings: Tuple[Finding, ...]


def still_found(subject: Subject) -> Optional[Earlier]:
    """What this rollout's stage found here, if all that it follows from is as it was."""
    kept = subject.instance.kept
    found: Optional[Earlier] = kept.load_of_boot(Earlier, EARLIER) if kept is not None else None
    if found is None or subject.request.ask is not Ask.UPGRADE:
        return None
    age_s = subject.machine.boottime_s() - found.at_s
    if not 0.0 <= age_s < HOLDS_S or found.of != _of(subject):
        return None
    same = all(_identity(subject, path) == identity for path, identity in found.files)
    return found if same and _log(subject)[0] == found.log[0] else None


def keep(
    subject: Subject, config: Optional[ConfigFiles], rehearsal: Optional[Rehearsal], findings: Iterable[Finding]
) -> None:
    """Keep what the stage of a rollout found. A host that can't keep it looks again."""
    kept, machine = subject.instance.kept, subject.machine
    if kept is None or Step.STAGE not in subject.request.allowed or config is None or not config.complete:
        return
    named = _named(config)
    if len(named) > MOST_FILES:
        return
    known = tuple((path, _identity(subject, path)) for path in _files(subject, config, rehearsal, named))
    found = Earlier(machine.boot_id(), machine.boottime_s(), _of(subject), known, _log(subject), tuple(findings))
    with suppress(OSError):
        kept.save(EARLIER, found, lasting=False)


def _of(subject: Subject) -> str:
    """The hash of what was judged, but for the files. The bundle's path has the hash of the code that judged."""
    request, options = subject.request, subject.request.options
    judged = (
        os.path.realpath(sys.argv[0]),
        request.rollout,
        request.goal,
        (options.probes, options.rehearse, options.guard, options.hold_package),
        request.layout,
        subject.seen,
        subject.record,
        subject.serving,
        subject.machine.read(ONLINE),
    )
    return hashlib.sha256(encode(judged).encode("utf-8", "surrogateescape")).hexdigest()


def _files(subject: Subject, config: ConfigFiles, rehearsal: Optional[Rehearsal], named: Iterable[str]) -> List[str]:
    """Every file that the findings may follow from, by the path that fleet reaches it by. nginx's logs are none."""
    machine = subject.machine
    seen = Seen(machine, subject.old.pid)
    elf = read_elf(machine, subject.staged) if subject.staged is not None else None
    own = (subject.staged, subject.seen.path, subject.image, LIBRARIES, elf.loader if elf is not None else None)
    found = {path for path in own if path is not None}
    found.update(seen.here(path) for path in config.files + config.folders)
    for shown in (rehearsal.old, rehearsal.new) if rehearsal is not None else ():
        found.update(seen.here(path) for path in (shown.modules if shown is not None else ()))
    logs = {_node(machine.stat(path)) for path in written_by(machine, subject.old.pid)}
    for path in named:
        file = seen.stat(path)
        if file is not None and stat.S_ISREG(file.st_mode) and _node(file) not in logs:
            found.add(seen.here(path))
    return sorted(found)


def _named(config: ConfigFiles) -> Set[str]:
    """The paths that the words of the configuration would have; more than `MOST_FILES` are too many."""
    folder = os.path.dirname(config.files[0]) if config.files else "/"
    found: Set[str] = set()
    for _, text in config.texts:
        found.update(under(folder, word) for word in NAME.findall(text) if "\0" not in word)
        if len(found) > MOST_FILES:
            break
    return found


def _node(seen: Optional[os.stat_result]) -> Tuple[int, int]:
    return (seen.st_dev, seen.st_ino) if seen is not None else (0, 0)


def _identity(subject: Subject, path: str) -> str:
    seen = subject.machine.stat(path)
    if seen is None:
        return ""
    return "%d %d %d %d %d" % (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def _log(subject: Subject) -> Tuple[int, int]:
    seen = subject.machine.stat("/proc/%d/fd/2" % subject.old.pid)
    return (seen.st_ino, seen.st_size) if seen is not None else (0, 0)
