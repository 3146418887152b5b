"""The work that is measured, and the bare shell that does it on a host."""

import shlex
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from fleet.lab.hosts import nginx
from fleet.lab.releases.build import make_release

HERE = Path(__file__).parent
SIZE_BYTES = 6_000_000
NEXT = "/root/nginx.next"
STDIN = "-"


class Job(Enum):
    """A kind of work."""

    FIRST = "upgrade, the host has never met the tool"
    COLD = "upgrade, the host does not have the release"
    STAGED = "upgrade, the host has the release"
    HELD = "rollback of held hosts"
    COMMITTED = "rollback of committed hosts"
    STATUS = "status"


UPLOADS = (Job.FIRST, Job.COLD)
"""The jobs for which the release is sent."""


@dataclass(frozen=True, slots=True)
class Release:
    """A release that no host has seen yet: its size makes it another file, its version can be seen over HTTP."""

    path: Path
    version: str


def next_release(folder: Path, number: int) -> Release:
    """The release `number` of a run. The versions come round again after 8; two in a row differ."""
    version = f"1.22.{2 + number % 8}"
    path = make_release("new", folder / f"nginx-{number}", version=version, size_bytes=SIZE_BYTES + number)
    return Release(path, version)


def upgrade_script(version: str, source: str = STDIN, *, hold: bool = False) -> str:
    """The bare upgrade of one host, to a release at `source` there."""
    given = f"source={shlex.quote(source)} version={version} hold={int(hold)}\n"
    return given + (HERE / "upgrade.sh").read_text()


def script(job: Job, release: Release, source: str) -> str:
    """What a peer runs on each host for this job."""
    if job is Job.STATUS:
        return "true"
    if job is Job.HELD:
        return (HERE / "back.sh").read_text()
    if job is Job.COMMITTED:
        return upgrade_script(release.version, f"{nginx.PROGRAM}.old")
    return upgrade_script(release.version, NEXT if job is Job.STAGED else source)
