"""The package managers' databases: where they are, whether one is locked now, and whether one has changed."""

import os
import re
from typing import NamedTuple, Optional, Tuple

from fleet.onhost.system.machine import Machine

PACKAGE_LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
    "/lib/apk/db/lock",
)
DPKG = ("/var/lib/dpkg/status",)
RPM = tuple(
    folder + "/" + name
    for folder in ("/var/lib/rpm", "/usr/lib/sysimage/rpm")
    for name in ("rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages", "Packages.db")
)
APK = ("/lib/apk/db/installed",)
VERSION_LOCKS = (
    "/etc/dnf/plugins/versionlock.list",
    "/etc/yum/pluginconf.d/versionlock.list",
    "/etc/dnf/versionlock.toml",
)
# dpkg notes what it is doing in `updates`, and merges that into `status` at the end.
CHANGING = DPKG + ("/var/lib/dpkg/updates", "/var/lib/dpkg/info", "/var/lib/dpkg/diversions") + RPM + VERSION_LOCKS
CHANGING += APK + ("/etc/apk/world",)


class Stamp(NamedTuple):
    """A file or folder of a database, as it was when it was read. `written_s` is in seconds since 1970."""

    path: str
    inode: int
    size: int
    written_s: float


def stamps(machine: Machine) -> Tuple[Stamp, ...]:
    """What changes when a package is installed, removed, held or released; empty without a package manager."""
    seen = ((path, machine.stat(path)) for path in CHANGING)
    return tuple(Stamp(path, one.st_ino, one.st_size, one.st_mtime) for path, one in seen if one is not None)


def flocked_by(machine: Machine, path: str) -> Optional[int]:
    """The pid that holds an flock() on the file, as apk does; found by the inode in /proc/locks."""
    seen = machine.stat(path)
    if seen is None:
        return None
    device = "%02x:%02x" % (os.major(seen.st_dev), os.minor(seen.st_dev))
    for line in (machine.read("/proc/locks") or "").splitlines():
        matched = re.match(r"^\d+: FLOCK\s+\w+\s+WRITE\s+(\d+) ([0-9a-f]+:[0-9a-f]+):(\d+) ", line)
        if matched and matched.group(2) == device and int(matched.group(3)) == seen.st_ino:
            return int(matched.group(1))
    return None
