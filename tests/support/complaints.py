"""An nginx whose workers complain in its log at their start, and releases that complain in other words."""

from pathlib import Path

from fleet.lab.releases.build import make_release

AFFINITY = f"worker_cpu_affinity 1{'0' * 1000} 1{'0' * 1001};"
"""Two processors that no machine has."""
AFFINITY_FAILED = "sched_setaffinity() failed (22: Invalid argument)"
AFFINITY_BROKEN = "sched_setaffinity() broken (22: Invalid argument)"
RLIMIT = "worker_rlimit_nofile 131072;"
RLIMIT_FAILED = "setrlimit(RLIMIT_NOFILE, 131072) failed (1: Operation not permitted)"
WITHOUT_RESOURCE = "prlimit --nofile=1024:4096 setpriv --bounding-set -sys_resource --"
"""A start without the capability to raise a limit, as in a container."""
PRIORITY = "worker_priority -5;"
PRIORITY_FAILED = "setpriority(-5) failed (13: Permission denied)"
WITHOUT_NICE = "setpriv --bounding-set -sys_nice --"


def make_other_words(out: Path) -> Path:
    """A release that complains of the affinity in words that no release before had."""
    release = make_release("new", out)
    content = release.read_bytes()
    old, new = AFFINITY_FAILED.partition(" (")[0].encode(), AFFINITY_BROKEN.partition(" (")[0].encode()
    assert len(old) == len(new)
    assert content.count(old + b"\0") == 1
    release.write_bytes(content.replace(old + b"\0", new + b"\0"))
    return release
