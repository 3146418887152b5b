"""What a commit says that leaves the retirement of the old master to the host."""

from fleet.onhost.reasons.reason import failure, note

DRAIN = (
    note(
        "left_to_host",
        "The host retires its old master by itself, once the connections of {old} have ended, in "
        "{within:.0f} s at the latest.",
        "Nothing to do: `fleet status` shows how far it is. To go back before that: `fleet rollback`.",
    ),
    failure(
        "retirement_unwatched",
        "The host can't retire its old master later by itself: {error}.",
        "Find out why no process starts or stays there (pids limit, memory, KillUserProcesses). Or wait for the old "
        "connections: `fleet commit`.",
    ),
)
