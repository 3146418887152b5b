"""The words of the steps forward: what went wrong when something was done, and what was put right or seen on the way.

A failure here has been acted on already when it is read: before `drain` the host is back where it began, from `drain`
on it is held. So a remedy says what to do next, not how to get the host serving again.
"""

from fleet.onhost.reasons.reason import AGAIN, fail, warn

TWO_MASTERS = "Ask again: the host is looked at afresh; if it stays so, a person must look (fleet status)."
LOOK_INTO_LOG = (
    "Look into the error log of that time; a release that is good elsewhere may miss something on this host."
)
MEND_POISON = (
    "Don't reload: that would add workers and read no file. {cause} Then upgrade again with --allow poisoned: a new master "
    "that comes up cures the old one."
)

LAUNCH = (
    fail(
        "no_path",
        "the path of the master's own binary can't be told",
        "Name it in the inventory: nginx_binary.",
    ),
    fail(
        "disk_error",
        "{path} does not hold what was written into it",
        "Check the disk (dmesg), " + AGAIN,
    ),
    fail(
        "swap_failed",
        "{path} could not be replaced: {error}",
        "Free space or mend the folder, " + AGAIN,
    ),
    fail(
        "swap_unseen",
        "{path} does not hold the new release after the rename",
        "Look who else replaces that file (configuration management?), " + AGAIN,
    ),
    fail(
        "not_two_masters",
        "expected an old and a new master, found {found}",
        TWO_MASTERS,
    ),
    fail(
        "master_stopped",
        "the old master (pid {pid}) is stopped, and signals would wait in it",
        "Let it go on (kill -CONT {pid}), then ask again.",
    ),
    warn(
        "pid_file_rewritten",
        "{path} named {held}, now it names the master {pid} again",
        "Nothing to do now; look who writes or empties it.",
    ),
    fail(
        "exec_missing",
        "{path} can't be executed, it or its loader is not there: {line}",
        "Look who takes it away (configuration management, a package?), " + AGAIN,
    ),
    fail(
        "exec_denied",
        "{path} may not be executed: {line}",
        "Look at its mode, its label (ls -lZ) and at what may forbid it: a noexec mount, SELinux, IMA, fapolicyd; "
        + AGAIN,
    ),
    fail(
        "exec_format",
        "{path} is no program for this machine: {line}",
        "Take a release that was built for this host; if it was, look who writes into that file.",
    ),
    fail(
        "text_busy",
        "{path} is open for writing, also after it was waited for: {line}",
        "Look who writes into it (fuser -v {path}), " + AGAIN,
    ),
    fail(
        "exec_failed",
        "{path} could not be executed: {line}",
        "The number in that line says why (man 3 errno); mend it, " + AGAIN,
    ),
    warn(
        "text_was_busy",
        "{path} was open for writing when it should be executed; it was waited for",
        "Nothing to do now; look who writes there.",
    ),
    warn(
        "file_mended",
        "{line}; it has been given the owner, mode and labels of the old one once more",
        "Nothing to do if the launch went well; look who changed them.",
    ),
    fail(
        "start_crashed",
        "the new binary was ended by signal {signal} when it {when}",
        "A torn file, or built for another processor: check it on a host of this kind (`nginx -V`), " + AGAIN,
    ),
    fail(
        "module_incompatible",
        "a dynamic module does not fit the new binary: {line}",
        "Ship the modules that were built together with this binary, or build it with the same options as the old one.",
    ),
    fail(
        "test_too_slow",
        "the configuration test of the new binary had not ended after {waited:.0f} s",
        "Look for names in the configuration that take long to resolve, " + AGAIN,
    ),
    fail(
        "pid_dir_full",
        "the new master could not write its pid file: {line}",
        "Free space where {path} lies, " + AGAIN,
    ),
    fail(
        "poisoned_by_rename",
        "the old master could not put its pid file aside, and is poisoned now: a reload would double its workers. "
        "nginx says: {line}",
        MEND_POISON.format(cause="See to the folder of {path} (there, writable, not full) and that it holds {pid}."),
    ),
    fail(
        "poisoned_by_fork",
        "the old master could not fork, and is poisoned now: a reload would double its workers. nginx says: {line}",
        MEND_POISON.format(cause="Raise what was short: the process limit (pids.max, TasksMax, nproc) or the memory."),
    ),
    fail(
        "other_pid_file",
        "the new master (pid {pid}) wrote its pid into {other}, not into {path}: nobody would find it there",
        "Give the configuration the `pid` that the running master has, or build with the same --pid-path; " + AGAIN,
    ),
    fail(
        "launch_failed",
        "the new master did not start: {line}",
        LOOK_INTO_LOG,
    ),
    fail(
        "launch_slow",
        "the new master (pid {pid}) has not come up within {waited:.0f} s",
        "Look for what its start waits for (names to resolve, a slow disk; its test took {tested:.1f} s), " + AGAIN,
    ),
    fail(
        "usr2_ignored",
        "the old master (pid {pid}) did not act on USR2 within {waited:.0f} s: {line}",
        "Look into its error log; restart nginx once if it is supervised or runs with `daemon off`.",
    ),
)

VERIFY = (
    fail(
        "new_master_died",
        "the new master (pid {pid}) has ended",
        LOOK_INTO_LOG,
    ),
    fail(
        "new_master_hangs",
        "the new master (pid {pid}) is stopped or hangs (state {state})",
        "Look what it waits for on a host of this kind (a debugger, a dead mount), " + AGAIN,
    ),
    fail(
        "workers_missing",
        "the new master has {has} serving worker(s) after {waited:.0f} s, the old one had {wanted}",
        "Start the release on a host of this kind by hand and look what becomes of its workers.",
    ),
    fail(
        "workers_hang",
        "{count} worker(s) of the new master hang before they serve, after {waited:.0f} s",
        "Look what they wait for on a host of this kind (a module's start, a dead mount), " + AGAIN,
    ),
    fail(
        "workers_crash",
        "workers of the new release crash: {lines}",
        "The release is bad for this host's traffic or configuration: look at a core dump; give it no other host.",
    ),
    fail(
        "workers_fatal",
        "workers of the new release end by themselves and are not started again: {lines}",
        "Their last line before that says why (limits, a module's start); mend it, " + AGAIN,
    ),
    fail(
        "workers_changed",
        "workers of the new master came and went while it settled",
        "They crash, or somebody reloaded nginx just then: look into the error log, " + AGAIN,
    ),
    fail(
        "log_bad",
        "the new release wrote to the error log: {lines}",
        "Mend what these lines say, " + AGAIN,
    ),
    fail(
        "workers_silent",
        "no worker of the new master took a probe: {trouble}",
        "They hang, or the probe's address is not this nginx's: look what the workers wait for on a host of this kind.",
    ),
    fail(
        "probe_failed",
        "{trouble}",
        "Ask the same of another host that runs the old release: if it is well there, the new release is bad.",
    ),
    fail(
        "listeners_uncovered",
        "the new workers do not hold {listeners}: clients would hang there once the old workers are gone",
        "Use the same configuration for both releases.",
    ),
    warn(
        "log_passed_over",
        "this was in the error log before the rollout was gone on with, and counts no more: {lines}",
        "If the release was to blame for it, roll back.",
    ),
    warn(
        "no_probes",
        "nothing was asked of the new workers",
        "Add fleet_probes to the inventory.",
    ),
    warn(
        "workers_doubled",
        "the old master (pid {pid}) has {has} workers instead of {wanted}: somebody reloaded it while the new one lived, "
        "which adds workers and reads no file",
        "Nothing to do now: the next step that ends its workers or reloads it makes them one set. Reload the configuration "
        "after the upgrade.",
    ),
    warn(
        "log_rotated",
        "{paths} was rotated and the held old master (pid {pid}) still writes to the file before",
        "Nothing to do: it opens the new file when it takes over again, and its file is closed when it leaves.",
    ),
)

DRAIN = (
    fail(
        "new_not_serving",
        "the new master has no accepting worker{when}: without the old one nobody would serve",
        "Look into the error log. The old master is kept; ask again, or roll back.",
    ),
    fail(
        "drain_unseen",
        "the old workers still accept {waited:.0f} s after WINCH; both releases serve",
        "Look at the old master (pid {pid}): is it stopped, or does it run with `daemon off`?",
    ),
    warn(
        "winch_put_off",
        "a reload from outside came together with WINCH and put it off; USR1 made it happen while the new master served",
        "Nothing to do now. Keep reloads (timers, certificate hooks) away from upgrades: what was reloaded was the old "
        "master, which read no file.",
    ),
    warn(
        "drain_pending",
        "old workers still drain after {waited:.0f} s; the old master is kept, undoable",
        "Commit again later, or with --cut to end their connections.",
    ),
    warn(
        "connections_cut",
        "{count} connection(s) of the {whose} workers are cut",
        "Nothing to do now; a longer --drain-timeout lets them finish.",
    ),
    warn(
        "old_revived",
        "workers of the old master (pid {pid}) accept again: somebody sent it HUP (a reload from outside?)",
        "Commit again: it drains them.",
    ),
    fail(
        "retire_unseen",
        "the old master (pid {pid}) is still there after QUIT and TERM",
        "Look what it waits for (state D: a dead mount), then commit again.",
    ),
    fail(
        "pid_file_lies",
        "{path} names {held} after the old master has left",
        "Write the master's pid into it: echo {pid} > {path}",
    ),
)
