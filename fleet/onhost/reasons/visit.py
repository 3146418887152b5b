"""Reasons of whole visits: what fleet found the host to be, and how a request ended."""

from fleet.onhost.reasons.reason import LEAVE_OUT, RESUME, SEE_STATUS, failure, note, refusal, warning

CONTINUE = "Check the host with `fleet status`, " + RESUME
ONE_VERSION = (
    "Check `fleet --version` on the laptop and run the command again; fleet sends the step script of its own version."
)

PLACE = (
    failure(
        "down",
        "No nginx master runs on this host, so it serves nothing.",
        "Start it by hand, because fleet never does: {command}.",
    ),
    failure(
        "orphans_only",
        "No nginx master runs on this host; its old workers (pids {pids}) still serve and hold its ports.",
        "Leave them until you are ready to start nginx. Then end them with `kill -QUIT {pids}` and, when they "
        "are gone, start it: {command}.",
    ),
    failure(
        "foreign",
        "The masters here are not those of this rollout, so fleet leaves them alone: {why}.",
        SEE_STATUS + " If another upgrade is under way, let it end; if not, `ps -ef | grep nginx` shows the masters.",
    ),
    failure(
        "went_back",
        "The host is {phase}, not where fleet left it. Cause: {cause}.",
        "Read nginx's error log and {journal} on the host, and correct the cause. Then run `fleet resume`, or "
        "`fleet upgrade RELEASE` for a new rollout.",
    ),
    warning(
        "restarted_meanwhile",
        "The new release already serves alone: nginx was restarted or the old master was killed, so it can't be held.",
        "Watch the host. Going back is now an upgrade with the kept binary: `fleet rollback`.",
    ),
    failure(
        "no_end",
        "The host kept changing: {moves} moves did not reach the goal.",
        "Stop what else acts on nginx here (restarts, reloads, another tool), " + RESUME,
    ),
    failure(
        "still_dismissing",
        "The new master still finishes its last connections after {waited:.0f} s; the old master serves.",
        "Wait, because it exits by itself. Check the host with `fleet status`, " + RESUME,
    ),
    failure(
        "failed_to_go_back",
        "The rollback failed. {serving}. Why it failed: {worse}. Why it began: {first}.",
        "{remedy}. " + SEE_STATUS,
    ),
    failure(
        "process_gone",
        "An nginx process exited before fleet could signal it: {error}.",
        CONTINUE,
    ),
)

REQUEST = (
    note("runs_it", "The host already runs this release.", "Nothing to do."),
    note("nothing_to_undo", "The host was not changed by this rollout.", "Nothing to do."),
    note(
        "other_rollout",
        "The host is not in this rollout: {whose}.",
        "Name the host's own rollout (`fleet status` shows it), " + LEAVE_OUT + ".",
    ),
    refusal(
        "taken_over",
        "This host was taken over: {by}.",
        "Ask that operator before you continue; `fleet status` shows the rollout.",
    ),
    refusal(
        "claimed",
        "Another run holds this host: {by}.",
        "Wait for it with `--lock-wait 5m`, ask that operator, or take the host over with `--force`. `fleet rollback` need "
        "not wait.",
    ),
    refusal(
        "busy",
        "This instance is locked by another {holder}.",
        "Wait until it has ended. If it hangs, end it on the host (`kill -9 PID`) and run the command again. "
        + SEE_STATUS,
    ),
    warning(
        "not_fenced",
        "The host could not be locked against other rollouts: {error}.",
        "Free space on the host: `df -h {folder}`. Start no other rollout there until then.",
    ),
    failure(
        "interrupted",
        "The run was interrupted, so no further step was started on this host.",
        "Continue with `fleet resume`, or undo with `fleet rollback`.",
    ),
    failure(
        "controller_gone",
        "The controller is gone, so no further step was started on this host: {how}.",
        "Check the connection to the host and look at it with `fleet status`, " + RESUME,
    ),
    refusal(
        "release_missing",
        "The release is not on the host: {path} is needed.",
        "Name the binary's file, so that fleet can send it: `fleet upgrade FILE` or `fleet resume --release FILE`.",
    ),
    failure(
        "wrong_bytes",
        "The transfer of the release was damaged: {error}. Nothing was changed.",
        "Check the file on the laptop with `sha256sum FILE`, " + RESUME,
    ),
    refusal(
        "journal_unwritable",
        "The host's journal is not writable, so no step forward was started: {folder}.",
        "Free space on the host (`df -h {folder}`), " + RESUME,
    ),
    warning(
        "record_unwritable",
        "The host's record is not writable, so the host does not know that its rollout has advanced: {folder}.",
        "Free space on the host (`df -h {folder}`), then run the same command again and check with `fleet status`.",
    ),
    failure(
        "bad_record",
        "A file that fleet keeps on the host is damaged: {error}.",
        "Correct that file or move it away, then look at the host with `fleet status`. Without its record.json fleet can't "
        "roll the host back.",
    ),
    failure(
        "host_io",
        "A file on the host could not be read or written: {error}.",
        "Free space or correct the permissions of that path (`df -h PATH`, `ls -ld PATH`). " + CONTINUE,
    ),
    refusal(
        "bad_request",
        "The step script can't read the request: {error}. Nothing was changed.",
        ONE_VERSION,
    ),
    refusal(
        "protocol",
        "The request has protocol {theirs}, and the step script on the host {ours}. Nothing was changed.",
        ONE_VERSION,
    ),
    failure(
        "bug",
        "This is a bug in fleet: {error}.",
        "Keep the output and the host's journal.jsonl, and report them. " + SEE_STATUS,
    ),
)
