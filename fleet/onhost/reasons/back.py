"""Reasons of the way back: of the steps that undo, and of what is corrected once the old master is alone again."""

from fleet.onhost.reasons.reason import RESUME, failure, warning

NEW_SERVES = "The new master was not stopped."
KEEP_NEW = (
    "Do not stop the new master. Read the error log (`grep -E 'emerg|alert|crit' ERROR_LOG`), then try once more: "
    "`fleet rollback --limit HOST`."
)
ROLL_BACK = "then run `fleet rollback --limit HOST`."

BACK = (
    warning(
        "nobody_accepted",
        "The host served no new connections: no worker of any master accepted. Master {pid} starts its workers again.",
        "Find out what sent WINCH or QUIT to the serving master; the host's journal.jsonl lists what fleet sent.",
    ),
    failure(
        "revive_unseen",
        "The old master (pid {pid}) has no accepting worker {waited:.0f} s after HUP. " + NEW_SERVES,
        KEEP_NEW,
    ),
    failure(
        "no_listeners",
        "The old master is closing down: no master here holds a listening socket, so new connections are refused.",
        "Wait until `fleet status` shows the phase DOWN: the last connections have ended. Then start nginx with the "
        "command that `fleet status` prints.",
    ),
    failure(
        "old_not_answering",
        "The old workers run again but do not answer: {problem}. " + NEW_SERVES,
        KEEP_NEW,
    ),
    warning(
        "old_answers_badly",
        "The old workers run again and answer a probe wrongly: {problem}.",
        "Check what they serve: `curl -i URL` with the address of the probe in `fleet_probes`.",
    ),
    failure(
        "old_not_serving",
        "The old master has no accepting worker, so the new one was not stopped.",
        "Run `fleet rollback --limit HOST`: it starts the old master's workers first.",
    ),
    warning(
        "new_master_woken",
        "The new master (pid {pid}) was stopped; fleet let it continue, so that it can end its workers itself.",
        "Nothing to do now. Find out what stopped it (a debugger?).",
    ),
    warning(
        "new_master_killed",
        "The new master (pid {pid}) had to be killed; its workers ({workers}) are sent QUIT one by one.",
        "Nothing to do now. The old master serves; this release does not obey its signals.",
    ),
    failure(
        "dismiss_unseen",
        "The new master (pid {pid}) still runs after QUIT, TERM and KILL; the old master serves, too.",
        "Find out what it waits for in the kernel (a dead mount?): `ps -o stat,wchan -p {pid}`; " + ROLL_BACK,
    ),
    failure(
        "orphans_left",
        "The workers {pids} still run after KILL.",
        "Find out what they wait for in the kernel (state D: a dead mount?): `ps -o stat,wchan -p PID`; " + RESUME,
    ),
    warning(
        "orphans_ended",
        "The workers {pids} of a dead master still served here; they have finished and exited.",
        "Find out what killed their master (out of memory? `dmesg | grep -i oom`).",
    ),
    warning(
        "stale_oldbin",
        "The file {path} named no master of this nginx; fleet removed it.",
        "Nothing to do: a power cut or a killed master leaves it behind.",
    ),
    warning(
        "path_put_right",
        "The file {path} was not the running binary; fleet put that back.",
        "Find out what replaced it; the replaced file is kept in the state folder (`fleet_state_dir`).",
    ),
    failure(
        "restore_failed",
        "The old binary could not be put back at {path}: {error}.",
        "Free space or correct the permissions (`df -h {path}`, `ls -ld {path}`), " + ROLL_BACK,
    ),
    failure(
        "restore_unseen",
        "The file {path} is not the old binary after the rename, so another program replaced it.",
        "Stop what else writes that file (configuration management, a package), " + ROLL_BACK,
    ),
    warning(
        "release_rescued",
        "The store had lost the binary {sha256}; fleet copied it from the running process {pid}.",
        "Nothing to do now. Find out what deletes files in the state folder (`fleet_state_dir`).",
    ),
    failure(
        "release_lost",
        "The old binary {sha256} is lost: it is not in the store, not beside its path, and no process runs it.",
        "Upgrade to that binary from a file: `fleet upgrade FILE`.",
    ),
    failure(
        "sweep_unseen",
        "The clean-up left something behind: {names}. nginx serves.",
        "Find out what holds it or makes it again (`fuser -v PATH`), " + RESUME,
    ),
)

AFTER = (
    warning(
        "config_not_reloaded",
        "The old master serves an older configuration than the one reloaded while the new release ran, because it could not "
        "load that: {why}.",
        "Correct that, then reload: `nginx -s reload`. nginx keeps what it has in memory if it rejects the files.",
    ),
    warning(
        "workers_normal",
        "The old master (pid {pid}) had too many workers; a reload gave it one set of {count} again.",
        "Nothing to do.",
    ),
    warning(
        "workers_left_doubled",
        "The old master (pid {pid}) keeps {has} workers instead of {wanted}: {why}.",
        "Once the configuration on the disk may become live, reload: `kill -HUP {pid}`.",
    ),
    warning(
        "log_reopened",
        "The logs were rotated while the old master (pid {pid}) was held; it writes to the new files now: {paths}.",
        "Nothing to do.",
    ),
    warning(
        "log_not_reopened",
        "The logs were rotated, and the master (pid {pid}) still writes to the old files: {paths}.",
        "Let it open the new ones: `kill -USR1 {pid}`.",
    ),
    warning(
        "image_deleted",
        'The file /proc/{pid}/exe reads "(deleted)", although the old binary is back at its path: needrestart, also by apt, '
        "would restart nginx.",
        "Keep needrestart off nginx: `echo '$nrconf{{override_rc}}{{qr(^nginx)}} = 0;' > "
        "/etc/needrestart/conf.d/nginx.conf`. Or restart nginx at a quiet time.",
    ),
    warning(
        "still_poisoned",
        "The master (pid {pid}) is still poisoned by the failed USR2: a reload adds workers and reads no file.",
        "Do not reload it. Cure it with `fleet upgrade RELEASE --allow poisoned`, or restart nginx.",
    ),
    warning(
        "not_put_right",
        "The host is back on the old release, but fleet could not check it afterwards: {error}.",
        "Check workers, logs and unit by hand: `ps -ef | grep nginx`, `systemctl status nginx`.",
    ),
    warning(
        "serving_unwritable",
        "The folder {folder} is not writable, so later visits do not know the old master's configuration and log.",
        "Free space on the host: `df -h {folder}`.",
    ),
)
