"""The exit codes that scripts read, each with one sentence."""

from fleet.rollout import results

EXIT_CODES = {
    results.OK: "The state you asked for holds on every host. Also: there was nothing to do, or a rollback you asked for "
    "is complete.",
    1: "A bug in fleet.",
    results.REFUSED: "Refused, and this command changed no host: usage, inventory, release, preflight, or a host that "
    "could not be reached in preflight.",
    results.HALTED: "The rollout halted, or fleet rolled it back by itself. Every host serves.",
    results.PERSON: "A host needs a person: it could not be reached after it was changed, is DOWN or FOREIGN, or failed to "
    "go back. Takes precedence over 3. For `status` and `unlock`: a host did not answer.",
    results.HELD_BY_OTHERS: "Another rollout holds the journal or a host. Never for `rollback`.",
    results.INTERRUPTED: "You interrupted the command. The last line says what to type to continue.",
}
