"""The argument RELEASE: a file, or the first digits of a hash that the hosts keep."""

from collections.abc import Sequence

from fleet.environment import CommandOptions, Environment
from fleet.errors import Interrupted, ReleaseError
from fleet.host import Host
from fleet.release import KeptRelease, Release, find_release
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.tasks import Target
from fleet.runs.engine_run import look_at
from fleet.ui.output import Output

FULL_DIGITS = 64


def find_target(
    environment: Environment, output: Output, options: CommandOptions, hosts: Sequence[Host], text: str
) -> tuple[Target, str]:
    """The release, and its description for people. Asks the hosts if RELEASE is part of a hash. Raises `ReleaseError`."""
    found = find_release(text)
    if isinstance(found, Release):
        target = Target(found.sha256, found.size_bytes, found.path, found.version)
        return target, _description(found)
    if len(found.prefix) == FULL_DIGITS:
        return Target(found.prefix), _description(found)
    look = look_at(environment, output, hosts, options)
    if look.interrupted:
        raise Interrupted("Interrupted while asking the hosts for that release. Nothing was changed.")
    sha256 = _find_on_hosts(look, found)
    return Target(sha256), f"release {sha256[:12]}"


def describe_release(text: str) -> str:
    """The release's description for people, without asking a host. Raises `ReleaseError`."""
    return _description(find_release(text))


def _description(found: Release | KeptRelease) -> str:
    if isinstance(found, KeptRelease):
        return f"release {found.prefix[:12]}"
    version = found.version or "of unknown version"
    return f"{found.product or 'nginx'} {version} ({found.sha256[:12]}, {found.path})"


def _find_on_hosts(look: RolloutStatus, kept: KeptRelease) -> str:
    """The only hash with this prefix that a host runs, has at its path, or has in its record. Raises `ReleaseError`."""
    known: set[str | None] = set()
    for host in look.all:
        if host.report is None:
            continue
        known |= {host.report.running_sha256, host.report.path_sha256}
        known |= {master.sha256 for master in host.report.masters}
        record = host.report.record
        known |= {record.target, record.before_process, record.before_file} if record else set()
    found = sorted(sha256 for sha256 in known if sha256 is not None and sha256.startswith(kept.prefix))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(sha256[:16] for sha256 in found)
        raise ReleaseError(f"{kept.prefix} matches several releases: {names}.", "Type more digits.")
    raise ReleaseError(
        f"No host knows a release {kept.prefix}….",
        "Give the path of its file instead, or select more hosts with -i and --limit.",
    )
