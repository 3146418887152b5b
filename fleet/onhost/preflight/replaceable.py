"""Whether the two files that an upgrade renames can be renamed: the binary by fleet, the pid file by nginx.

rename(2) fails for a mount point (EBUSY), and for an immutable or append-only file or folder (EPERM; chattr(1)), whoever
asks. With the binary nothing has happened then; with the pid file USR2 fails and poisons the master.
"""

import os
from typing import List, NamedTuple, Optional, Tuple

from fleet.onhost.preflight.resources import mount_of
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.system.files import APPEND_ONLY, IMMUTABLE
from fleet.onhost.system.machine import Machine


class Obstacle(NamedTuple):
    """What forbids a rename, and the command that ends it; `None` where there are several ways."""

    why: str
    cure: Optional[str]


def renamed_files(subject: Subject) -> List[Finding]:
    """The obstacles to the renames of an upgrade."""
    pid, path, pid_file = subject.old.pid, subject.seen.path, subject.seen.pid_file
    found = []
    obstacle = _obstacle(subject.machine, path, ("self",)) if path else None
    if obstacle is not None:
        cure = obstacle.cure or "`cp -p {0} {0}.tmp && umount -l {0} && mv {0}.tmp {0}`".format(path)
        found.append(finding("not_replaceable", path=path, why=obstacle.why, cure=cure))
    obstacle = pid_file_obstacle(subject)
    if obstacle is not None:
        cure = obstacle.cure or "`umount -l {0} && echo {1} > {0}`".format(pid_file, pid)
        found.append(finding("pid_file_fixed", path=pid_file, why=obstacle.why, cure=cure))
    return found


def pid_file_obstacle(subject: Subject) -> Optional[Obstacle]:
    """What forbids nginx to rename its pid file, so that no USR2 can succeed."""
    pid_file = subject.seen.pid_file
    return _obstacle(subject.machine, pid_file, ("self", str(subject.old.pid))) if pid_file else None


def _obstacle(machine: Machine, path: str, processes: Tuple[str, ...]) -> Optional[Obstacle]:
    """What forbids to rename the file, or another one over it, as these processes see it."""
    real, folder = machine.real_path(path), os.path.dirname(machine.real_path(path))
    if any(mount_of(machine, real, process) == real for process in processes):
        return Obstacle("it is a mount point of its own", None)
    for place, name in ((real, "it"), (folder, "its folder %s" % folder)):
        flags = machine.attributes(place)
        if flags & IMMUTABLE:
            return Obstacle("%s is immutable" % name, "`chattr -i %s`" % place)
        if flags & APPEND_ONLY:
            return Obstacle("%s is append-only" % name, "`chattr -a %s`" % place)
    return None
