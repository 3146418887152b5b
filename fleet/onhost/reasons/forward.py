"""Reasons of the steps forward: what failed, and what fleet corrected or saw on the way.

These are read after fleet has acted: a host whose upgrade failed before `drain` runs the old release again, from `drain`
on it is held. So a remedy says what to do next, not how to get the host serving.
"""

from fleet.onhost.reasons.reason import RESUME, SEE_STATUS, failure, warning

OLD_SERVES = "The old master still serves all traffic."
SEE_LOG = "Read the error log of that time: `grep -E 'emerg|alert|crit' ERROR_LOG`; "
TRY_HERE = "Try the release by hand on a host of this kind"
CURE = (
    "Do not reload it. {cause} Then upgrade with "
    "`fleet upgrade RELEASE --allow poisoned`: a new master that comes up cures the old one."
)

LAUNCH = (
    failure(
        "no_path",
        "The path of the nginx binary is unknown, so it can't be replaced or started.",
        "Set `nginx_binary` for this host in the inventory, " + RESUME,
    ),
    failure(
        "disk_error",
        "The disk returned other bytes than were written to {path}. " + OLD_SERVES,
        "Check the disk (`dmesg | tail`), " + RESUME,
    ),
    failure(
        "swap_failed",
        "The binary {path} could not be replaced: {error}. " + OLD_SERVES,
        "See what forbids it: space (`df -h {path}`), permissions (`ls -ld {path}`), attributes (`lsattr {path}`) or a "
        "mount (`findmnt {path}`). Correct that, " + RESUME,
    ),
    failure(
        "swap_unseen",
        "The binary {path} is not the new release after the rename, so another program replaced it. " + OLD_SERVES,
        "Stop what else writes that file (configuration management, a package), " + RESUME,
    ),
    failure(
        "not_two_masters",
        "The number of masters changed: this step needs an old and a new one, but found {found}.",
        SEE_STATUS + " Continue with `fleet resume`, or undo with `fleet rollback`.",
    ),
    failure(
        "master_stopped",
        "The old master (pid {pid}) is stopped and would handle a signal only later, so none was sent.",
        "Find out what stopped it (a debugger?), wake it with `kill -CONT {pid}`, " + RESUME,
    ),
    warning(
        "pid_file_rewritten",
        "The pid file {path} held {held}, not the master's pid; fleet wrote {pid} into it.",
        "Nothing to do now. Find out what writes or empties that file.",
    ),
    failure(
        "exec_missing",
        "The new binary {path}, or its loader, is missing. " + OLD_SERVES + " nginx says: {line}.",
        "Stop what removes it (configuration management, a package); `ldd {path}` shows the loader; " + RESUME,
    ),
    failure(
        "exec_denied",
        "The new binary {path} may not be executed. " + OLD_SERVES + " nginx says: {line}.",
        "Check its mode and label with `ls -lZ {path}`, and what may forbid it (a noexec mount, SELinux, IMA, fapolicyd); "
        + RESUME,
    ),
    failure(
        "exec_format",
        "The new binary {path} is not a program for this machine. " + OLD_SERVES + " nginx says: {line}.",
        "Upgrade with a release built for this host: `fleet upgrade RELEASE`. If it was, find out what writes that file.",
    ),
    failure(
        "text_busy",
        "The new binary {path} stayed open for writing, so it can't be executed. "
        + OLD_SERVES
        + " nginx says: {line}.",
        "End what writes it (`fuser -v {path}`), " + RESUME,
    ),
    failure(
        "exec_failed",
        "The new binary {path} could not be executed. " + OLD_SERVES + " nginx says: {line}.",
        "Correct what the error number in that line means (`man 3 errno`), " + RESUME,
    ),
    warning(
        "text_was_busy",
        "The new binary {path} was open for writing at the launch; fleet waited until it was closed.",
        "Nothing to do now. Find out what writes that file.",
    ),
    warning(
        "probe_not_counted",
        "The probe `fleet_probes[{number}]` does not count in this rollout, because the release that serves fails it: "
        "{problem}.",
        "Nothing to do if you allowed that. Else correct that entry of `fleet_probes` in the inventory.",
    ),
    warning(
        "file_mended",
        "The new binary {path} could not be executed; it got the owner, mode and labels of the running one, and USR2 is "
        "sent once more.",
        "Nothing to do if the launch succeeds. Find out what changes these files (`ls -lZ {path}`).",
    ),
    failure(
        "start_crashed",
        "The new binary crashed with signal {signal} when it {when}. " + OLD_SERVES,
        "The file is damaged or built for another processor: run `nginx -V` with it on a host of this kind, and upgrade "
        "with a good build: `fleet upgrade RELEASE`.",
    ),
    failure(
        "module_incompatible",
        "The module {module} kept the new master from starting: {why}. " + OLD_SERVES,
        "{cure}. Then run `fleet upgrade RELEASE`.",
    ),
    failure(
        "pid_dir_full",
        "The new master could not write its pid file, so it did not start. " + OLD_SERVES + " nginx says: {line}.",
        "Free space where {path} is (`df -h {path}`), " + RESUME,
    ),
    failure(
        "poisoned_by_rename",
        "The old master is poisoned: it could not rename its pid file, and a reload would now add workers and read no file. "
        + OLD_SERVES
        + " nginx says: {line}.",
        CURE.format(
            cause="See that the folder of {path} exists, is writable and not full, and that the file holds {pid}."
        ),
    ),
    failure(
        "poisoned_by_fork",
        "The old master is poisoned: it could not fork, and a reload would now add workers and read no file. "
        + OLD_SERVES
        + " nginx says: {line}.",
        CURE.format(cause="Raise the limit it met: processes (pids.max, TasksMax, nproc) or memory."),
    ),
    failure(
        "other_pid_file",
        "The new master (pid {pid}) wrote its pid to {other} instead of {path}, where init scripts look for it.",
        "Set `pid {path};` in nginx.conf, or build with the same --pid-path; then run `fleet upgrade RELEASE`.",
    ),
    failure(
        "launch_failed",
        "The new master did not start: {line}. " + OLD_SERVES,
        SEE_LOG + RESUME,
    ),
    failure(
        "launch_slow",
        "The new master (pid {pid}) was not ready within {waited:.0f} s of USR2. " + OLD_SERVES,
        "Find out what its start waits for: a name in nginx.conf that resolves slowly (`time getent hosts NAME`), a FIFO in "
        "place of a file, a slow disk; " + RESUME,
    ),
    failure(
        "usr2_pending",
        "The old master (pid {pid}) did not act on USR2 within {waited:.0f} s, because {why}. "
        + OLD_SERVES
        + " The signal can't be taken back: if nginx hears it later, it starts what lies at {path} then.",
        "Find the library that does this (`grep -o '/.*[.]so.*' /proc/{pid}/maps | sort -u`), and restart nginx without it "
        "at a quiet time, " + RESUME,
    ),
    failure(
        "usr2_ignored",
        "The old master (pid {pid}) did not act on USR2 within {waited:.0f} s: {line}. " + OLD_SERVES,
        SEE_LOG + "if nginx is supervised or runs with `daemon off`, restart it once without; " + RESUME,
    ),
)

VERIFY = (
    failure(
        "new_master_died",
        "The new master (pid {pid}) has exited. If the old master still runs, it serves all new connections: nginx starts "
        "its workers again if they were drained.",
        SEE_LOG + "then check the host with `fleet status`.",
    ),
    failure(
        "new_master_hangs",
        "The new master (pid {pid}) hangs or is stopped (process state {state}); it handles no signals.",
        "Find out what it waits for (a debugger, a dead mount): `ps -o stat,wchan -p {pid}`; " + RESUME,
    ),
    failure(
        "workers_missing",
        "The new master has too few workers: {has} of {wanted} serve after {waited:.0f} s.",
        TRY_HERE + " and watch its workers (`ps -ef | grep nginx`); " + RESUME,
    ),
    failure(
        "workers_hang",
        "The new workers hang before they serve: {count} of them after {waited:.0f} s.",
        TRY_HERE + " and find out what they wait for (a module, a dead mount): `ps -o stat,wchan -p PID`; " + RESUME,
    ),
    failure(
        "workers_crash",
        "The new release's workers crash. The log says: {lines}. {compared}.",
        "Do not upgrade more hosts with this release. If the host is held (TRIAL), go back: `fleet rollback`. A core dump "
        "shows where it crashed.",
    ),
    failure(
        "workers_fatal",
        "The new release's workers exit by themselves and are not started again. The log says: {lines}. {compared}.",
        "Do not upgrade more hosts with this release. If the host is held (TRIAL), go back: `fleet rollback`. The worker's "
        "last line before that says why.",
    ),
    failure(
        "workers_changed",
        "The new workers changed while fleet watched them: some exited, others started.",
        "They crash, or nginx was reloaded at that moment. " + SEE_LOG + RESUME,
    ),
    failure(
        "log_bad",
        "The new release logged errors: {lines}. {compared}.",
        "Correct what these lines say, "
        + RESUME
        + " If the host is held (TRIAL), you can go back: `fleet rollback`. If a line is harmless, name it, for upgrade or "
        "resume: `--allow {pattern}`.",
    ),
    failure(
        "workers_silent",
        "The probe reached no worker of the new master: {problem}. {compared}.",
        "Check that the address in `fleet_probes` belongs to this nginx (`ss -lnp`). If it does, its workers hang: "
        "`ps -o stat,wchan -p PID`.",
    ),
    failure(
        "probe_failed",
        "The probe failed on the new release: {problem}. {compared}.",
        "Ask the same of a host that runs the old release (`curl -i URL`) to see what differs. If this host is held "
        "(TRIAL), go back: `fleet rollback`.",
    ),
    failure(
        "probe_fails_on_both",
        "The probe fails on both releases: {problem}; and on the other one: {other}. So it says nothing about the new "
        "release.",
        "Find out what both depend on (an upstream, a disk). When `curl -i URL` is right on this host again, " + RESUME,
    ),
    warning(
        "probe_no_evidence",
        "A probe failed on both releases, which did not count: {problem}; and on the other one: {other}.",
        "Nothing to do for fleet. Find out what both depend on: an upstream, a disk.",
    ),
    failure(
        "listeners_uncovered",
        "The new workers do not listen on {listeners}; clients would hang there without the old workers.",
        "Compare them with the `listen` directives of the configuration (`ss -lnp` shows what is open), " + RESUME,
    ),
    warning(
        "log_known",
        "Log lines were not counted, because they are nothing new on this host: {lines}.",
        "Nothing to do for the upgrade. Find out what causes them.",
    ),
    warning(
        "log_allowed",
        "Log lines were not counted, because you allowed them: {lines}.",
        "Nothing to do if they are what you expected. Otherwise go back: `fleet rollback`.",
    ),
    warning(
        "settles_anew",
        "A new worker has exited while fleet watched it, as workers of the running release do; the settle time begins anew.",
        "Nothing to do if the upgrade succeeds. The error log shows how it exited: `grep 'exited on' ERROR_LOG`.",
    ),
    warning(
        "log_passed_over",
        "The error log had these lines before you resumed, and they no longer count against the release: {lines}.",
        "If the release caused them, go back: `fleet rollback`.",
    ),
    warning(
        "no_probes",
        "The new workers were not probed, because the inventory has no probes for this host.",
        "Add `fleet_probes` to the inventory.",
    ),
    warning(
        "workers_doubled",
        "The old master (pid {pid}) has {has} workers instead of {wanted}: it was reloaded while the new one ran, which "
        "adds workers and reads no file.",
        "Nothing to do now: the next step restores one set. Reload the configuration after the upgrade.",
    ),
    warning(
        "log_rotated",
        "The log was rotated, and the held old master (pid {pid}) still writes to the old file: {paths}.",
        "Nothing to do: it reopens its logs if it takes over again, and closes them when it exits.",
    ),
)

DRAIN = (
    failure(
        "new_not_serving",
        "The new master has no accepting worker{when}, so fleet keeps the old master.",
        SEE_LOG + "then continue with `fleet resume`, or go back: `fleet rollback`.",
    ),
    failure(
        "drain_unseen",
        "The old workers still accept {waited:.0f} s after WINCH, so both releases serve new connections.",
        "Check whether the old master is stopped or runs with `daemon off` (`ps -o stat,args -p {pid}`), then continue with "
        "`fleet resume`, or go back: `fleet rollback`.",
    ),
    warning(
        "winch_put_off",
        "The drain was delayed by a reload from outside at the same moment; USR1 made the old master handle it, and the "
        "new one served throughout.",
        "If that reload was to load a changed file, reload again: `nginx -s reload`. The old master got it and read no "
        "file. Keep reloads (timers, certificate hooks) away from upgrades.",
    ),
    warning(
        "drain_pending",
        "Old connections still drain after {waited:.0f} s; the old master is kept, and you can still go back.",
        "Commit later with `fleet commit`, or end these connections: `fleet commit --cut`.",
    ),
    warning(
        "connections_cut",
        "The {whose} workers did not finish in time; connections cut: {count}.",
        "Nothing to do now. A longer `--drain-timeout` lets connections finish.",
    ),
    warning(
        "old_revived",
        "The old master (pid {pid}) has accepting workers again, so both releases serve: it was sent HUP from outside (a "
        "reload?).",
        "Drain it again: `fleet commit`.",
    ),
    failure(
        "retire_unseen",
        "The old master (pid {pid}) still runs after QUIT and TERM; the new release serves.",
        "Find out what it waits for (`ps -o stat,wchan -p {pid}`; state D: a dead mount), then run `fleet commit`.",
    ),
    failure(
        "pid_file_lies",
        "The pid file {path} holds {held} after the old master has exited; the new release serves.",
        "Write the master's pid into it: `echo {pid} > {path}`.",
    ),
)
