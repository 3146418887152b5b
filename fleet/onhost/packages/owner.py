"""The host's package manager: whether it is running, and which package owns a file."""

import os
import re
from typing import NamedTuple, Optional, Tuple

from fleet.onhost.system.host_tools import TOOL_ENV, TOOL_TIMEOUT_S
from fleet.onhost.system.machine import Machine

PACKAGE_LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
    "/lib/apk/db/lock",
)


class Owner(NamedTuple):
    """The package that owns a file, and the command that holds the package at its version."""

    package: str
    hold: str


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


def owner_of(machine: Machine, path: str) -> Optional[Owner]:
    """The package that owns the file, according to the host's package manager, or `None`."""
    for name in _names_of(path):
        ran = machine.run(("dpkg-query", "-S", name), TOOL_TIMEOUT_S, env=TOOL_ENV)
        lines = [line for line in ran.output.splitlines() if line.endswith(": " + name) and " by " not in line]
        if ran.code == 0 and lines:
            package = lines[0].partition(":")[0]
            return Owner(package, "apt-mark hold %s" % package)
    ran = machine.run(("rpm", "-qf", "--queryformat", "%{NAME}\\n", path), TOOL_TIMEOUT_S, env=TOOL_ENV)
    if ran.code == 0 and ran.output.strip():
        package = ran.output.split()[0]
        return Owner(package, "dnf versionlock add %s" % package)
    ran = machine.run(("apk", "info", "--who-owns", path), TOOL_TIMEOUT_S, env=TOOL_ENV)
    matched = re.search(r" is owned by (\S+?)-\d\S*$", ran.output.strip()) if ran.code == 0 else None
    if matched:
        return Owner(matched.group(1), "apk add '%s=VERSION'" % matched.group(1))
    return None


def _names_of(path: str) -> Tuple[str, ...]:
    """The names under which a package may list a file: with a merged /usr, /sbin/x and /usr/sbin/x are one file."""
    if re.match(r"^/usr/(s?bin|lib)/", path):
        return path, path[len("/usr") :]
    return (path, "/usr" + path) if re.match(r"^/(s?bin|lib)/", path) else (path,)
