"""Reasons of the lease and of its watcher."""

from fleet.onhost.reasons.reason import refusal, warning

LEASE = (
    refusal(
        "lease_unwatched",
        "The lease can't be watched, because its watcher did not start: {error}.",
        "Find out why no process starts there (pids limit, memory), or upgrade without a lease: `--lease off`.",
    ),
    warning(
        "watcher_dead",
        "The lease's watcher is dead and can't be started, so the host does not go back by itself: {error}.",
        "Find out why no process starts there (pids limit, memory), then continue with `fleet resume`. Or decide now: "
        "`fleet commit`, or `fleet rollback`.",
    ),
    warning(
        "watcher_ends_at_logout",
        "The lease's watcher ends when fleet logs out, so the host does not go back by itself: logind has "
        "KillUserProcesses=yes, and systemd does not start it as a unit ({error}).",
        "See what systemd lacks with `systemctl status` on the host, and correct it; the next visit then starts the watcher "
        "again. Or decide now: `fleet commit`, or `fleet rollback`.",
    ),
    warning(
        "lease_not_renewed",
        "The lease could not be renewed, so the host goes back by itself in {left:.0f} s: {error}.",
        "Before then, free space in the state folder or raise the process limit; or keep the release: `fleet commit`.",
    ),
)
