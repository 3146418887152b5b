"""The words of the way back: of the steps that undo, and of what is put right once the old master is alone again."""

from fleet.onhost.reasons.reason import fail, warn

DON_T_STOP = "Look into the error log. Do not stop the new master: it is the one that serves."

BACK = (
    warn(
        "nobody_accepted",
        "no worker of any master accepted here; the master {pid} is told to start its workers again",
        "Look who sent WINCH or QUIT to the one that served (the host's journal has what fleet sent).",
    ),
    fail(
        "revive_unseen",
        "the old master (pid {pid}) has no accepting worker {waited:.0f} s after HUP; the new one is left serving",
        DON_T_STOP,
    ),
    fail(
        "no_listeners",
        "no master holds a listening socket any more",
        "Wait until the last connections have ended, then roll back: the kept binary goes forward as any release.",
    ),
    fail(
        "old_not_answering",
        "the revived old workers do not answer: {trouble}; the new master is left serving",
        DON_T_STOP,
    ),
    warn(
        "old_answers_badly",
        "the revived old workers: {trouble}",
        "Look at what they serve.",
    ),
    fail(
        "old_not_serving",
        "the old master has no accepting worker: the new one must not go yet",
        "Roll back again: the old master is revived first.",
    ),
    warn(
        "new_master_woken",
        "the new master (pid {pid}) was stopped; it goes on, so that it can end its workers itself",
        "Look who stopped it (a debugger?).",
    ),
    warn(
        "new_master_killed",
        "the new master (pid {pid}) had to be killed; its workers ({workers}) are told to quit one by one",
        "Nothing to do now; the release does not obey its signals.",
    ),
    fail(
        "dismiss_unseen",
        "the new master (pid {pid}) is still there after QUIT, TERM and KILL",
        "Look what it waits for in the kernel (ps -o stat,wchan -p {pid}: a dead mount?), then roll back again.",
    ),
    fail(
        "orphans_left",
        "workers {pids} are still there after KILL",
        "Look what they wait for in the kernel (state D: a dead mount?), then roll back again.",
    ),
    warn(
        "orphans_ended",
        "workers {pids} of a dead master still served here; they finished what they had and are gone",
        "Look who killed their master (the kernel's out-of-memory killer?).",
    ),
    warn(
        "stale_oldbin",
        "{path} named no master of this nginx and was removed",
        "Nothing to do: a power cut or a killed master leaves it behind.",
    ),
    warn(
        "path_put_right",
        "{path} held another file; the one that runs is put back there",
        "Look who replaced it; that file is kept in the state folder.",
    ),
    fail(
        "restore_failed",
        "{path} could not be put back: {error}",
        "Free space, then roll back again.",
    ),
    fail(
        "restore_unseen",
        "{path} does not hold the release before after the rename",
        "Look who else replaces that file (configuration management?), then roll back again.",
    ),
    warn(
        "release_rescued",
        "the store had lost {sha256}; it was taken from the running process {pid}",
        "Look who cleans up in the state folder.",
    ),
    fail(
        "release_lost",
        "neither the kept file, nor the store, nor a running process has {sha256} any more",
        "Bring that binary as a release and upgrade to it: fleet upgrade FILE.",
    ),
    fail(
        "sweep_unseen",
        "still there after the sweep: {names}",
        "Look who holds or makes them, then ask again.",
    ),
)

AFTER = (
    warn(
        "config_not_reloaded",
        "the configuration was reloaded while the new release was held, and the old one has not loaded it: {why}",
        "nginx serves what it had loaded before. Put that right, then reload nginx.",
    ),
    warn(
        "workers_normal",
        "one reload made one set of {count} workers of the doubled ones of the old master (pid {pid})",
        "Nothing to do.",
    ),
    warn(
        "workers_left_doubled",
        "the old master (pid {pid}) keeps {has} workers instead of {wanted}: {why}",
        "When the configuration on the disk is what should be live: kill -HUP {pid}.",
    ),
    warn(
        "log_reopened",
        "{paths} was rotated while the old master (pid {pid}) was held; it has opened the new file",
        "Nothing to do.",
    ),
    warn(
        "log_not_reopened",
        "{paths} was rotated, and the master (pid {pid}) still writes to the file before",
        "Let it open the new one: kill -USR1 {pid}.",
    ),
    warn(
        "unit_main_pid_stale",
        "systemd's {unit} takes pid {main} for the main process, but nginx is pid {pid}: a stop would not be graceful",
        "systemctl reload {unit}",
    ),
    warn(
        "still_poisoned",
        "nginx (pid {pid}) is poisoned by the USR2 that failed: a reload adds workers and reads no file",
        "Don't reload. The next upgrade (--allow poisoned) cures it, or a restart of nginx.",
    ),
    warn(
        "not_put_right",
        "the host is back; what was to be put right afterwards could not be looked at: {error}",
        "Look at nginx's workers, its logs and `systemctl status` by hand.",
    ),
    warn(
        "serving_unwritable",
        "{folder} can't be written to: later visits will not know the old master's configuration and log",
        "Free space on the host.",
    ),
)
