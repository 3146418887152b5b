"""When a package was last installed, by what its package manager has written down."""

import re
import time
from contextlib import suppress
from datetime import datetime, timezone
from typing import Iterator, Optional

from fleet.onhost.packages.owner import Manager, Owner
from fleet.onhost.system.machine import Machine

DPKG_LOGS = ("/var/log/dpkg.log", "/var/log/dpkg.log.1")
READ_BYTES = 1 << 20
# `2026-11-23 10:00:05 status installed nginx:amd64 1.22.1-9+deb12u9` (dpkg(1), section LOG), in the host's own time.
INSTALLED = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) status installed ([^\s:]+)\S* (\S+)$")


def installed_since(machine: Machine, owner: Owner, since_s: float) -> Optional[float]:
    """When the installed version of the package was put there, if that was after `since_s`; both in seconds since 1970.

    It may be a reinstallation of the same version. `None` where nothing is written down of one.
    """
    if owner.manager is Manager.DPKG:
        at_s = max(_in_dpkg_logs(machine, owner), default=None)
    else:
        at_s = owner.installed_at_s
    return at_s if at_s is not None and at_s >= since_s else None


def seconds_of(utc: str) -> float:
    """The time, as `Machine.utc` writes it, in seconds since 1970. Raises ValueError."""
    return datetime.strptime(utc, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp()


def utc_of(at_s: float) -> str:
    """`2026-11-23 10:00:05 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_s))


def _in_dpkg_logs(machine: Machine, owner: Owner) -> Iterator[float]:
    for path in DPKG_LOGS:
        for line in _last_lines(machine, path):
            matched = INSTALLED.match(line)
            if matched and matched.group(2) == owner.package.partition(":")[0]:
                yield time.mktime(time.strptime(matched.group(1), "%Y-%m-%d %H:%M:%S"))


def _last_lines(machine: Machine, path: str) -> Iterator[str]:
    seen = machine.stat(path)
    if seen is None:
        return
    with suppress(OSError):
        text = machine.read_from(path, max(0, seen.st_size - READ_BYTES), READ_BYTES)
        yield from text.decode("utf-8", "replace").splitlines()
