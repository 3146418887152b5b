"""The words of whole visits: what the host was found to be, and what became of what was asked of it."""

from fleet.onhost.reasons.reason import LEAVE_OUT, fail, note, refuse, warn

A_PERSON = "A person must look: fleet status shows the masters and the rollout that the host remembers."

PLACE = (
    fail(
        "down",
        "no nginx master runs here",
        "fleet never starts nginx. Start it by hand: {command}",
    ),
    fail(
        "orphans_only",
        "no nginx master runs here; its old workers ({pids}) still serve, and hold its ports",
        "Leave them until you start nginx; then first: kill -QUIT {pids}, and when they are gone: {command}",
    ),
    fail(
        "foreign",
        "the masters here are not what this rollout left: {who}",
        A_PERSON,
    ),
    fail(
        "went_back",
        "the host is {phase}: {cause}",
        "Its journal ({journal}) says what fleet did, nginx's error log the rest; upgrade it again when that is mended.",
    ),
    warn(
        "restarted_meanwhile",
        "the old master is gone already and the new release serves alone: nginx was restarted, or the old master killed",
        "It can't be held any more: watch it; a rollback is an upgrade with the kept binary.",
    ),
    fail(
        "no_end",
        "the host kept changing under {moves} moves",
        "Somebody else acts here (restarts, reloads, another tool): find out who, then ask again.",
    ),
    fail(
        "still_dismissing",
        "the new master still finishes its last connections after {waited:.0f} s",
        "Ask again later: it ends by itself.",
    ),
    fail(
        "failed_to_go_back",
        "{worse} (after: {first})",
        "{remedy}",
    ),
    fail(
        "process_gone",
        "{error}",
        "Ask again: the host is looked at afresh.",
    ),
)

REQUEST = (
    note("runs_it", "this host runs the release already", "Nothing to do."),
    note("nothing_to_undo", "this host was not changed by the rollout", "Nothing to do."),
    note(
        "other_rollout",
        "{whose}",
        "Name the rollout that this host is in, " + LEAVE_OUT + ".",
    ),
    refuse(
        "taken_over",
        "{by}",
        "Ask whoever that is; `fleet status` shows it.",
    ),
    refuse(
        "claimed",
        "{by}",
        "Wait for it (--lock-wait 5m), ask whoever that is, or take the host over: --force. A rollback need not wait.",
    ),
    refuse(
        "busy",
        "{who} is at work on this instance",
        "Wait for it; if it hangs, end it (kill -9), then ask again. One that is stopped is ended by itself.",
    ),
    warn(
        "lease_not_renewed",
        "the lease could not be renewed ({error}): the host goes back by itself in {left:.0f} s",
        "Put that right (space in the state folder, processes) before then, or commit.",
    ),
    refuse(
        "lease_unwatched",
        "no watcher for the lease could be started: {error}",
        "See why a process can't be started there (pids limit, memory), or go without: --lease off.",
    ),
    warn(
        "not_fenced",
        "the host can't be locked against others: {error}",
        "Free space in {folder}.",
    ),
    fail(
        "interrupted",
        "the operator turned back",
        "Ask again when you want it to go on; what to type is printed at the end.",
    ),
    fail(
        "controller_gone",
        "the controller is gone: {how}",
        "Look at the link, then ask again: the host is looked at afresh.",
    ),
    refuse(
        "release_missing",
        "{path} is wanted",
        "Name the binary's file, so that it can be sent.",
    ),
    fail(
        "wrong_bytes",
        "{error}",
        "Run it again: the transfer went wrong.",
    ),
    refuse(
        "journal_unwritable",
        "{folder} can't be written to",
        "Free space on the host.",
    ),
    warn(
        "record_unwritable",
        "{folder} can't be written to: the host does not know how far its rollout has come",
        "Free space on the host, then ask again.",
    ),
    fail(
        "bad_record",
        "{error}",
        "Mend or remove that file by hand.",
    ),
    fail(
        "host_io",
        "{error}",
        "Free space or mend the folder, then ask again.",
    ),
    refuse(
        "bad_request",
        "the request can't be read: {error}",
        "Use one fleet for both ends: the laptop's sends its own step script.",
    ),
    refuse(
        "protocol",
        "the request speaks protocol {theirs}, this bundle {ours}",
        "Use one fleet for both ends: the laptop's sends its own step script.",
    ),
    fail(
        "bug",
        "a bug in fleet: {error}",
        "Keep the log and report it.",
    ),
)
