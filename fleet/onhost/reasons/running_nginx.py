"""Reasons of preflight about the running nginx: which master is meant, and what keeps it from an upgrade."""

from fleet.onhost.reasons.reason import LEAVE_OUT, overridable, refusal

WRITE_PID = "Write the pid file again: `echo {pid} > {path}`"

MASTER = (
    refusal(
        "no_master",
        "No nginx master runs here{named}.",
        "Start nginx; if it runs elsewhere, set `nginx_pid_file` or `nginx_binary` in the inventory; "
        + LEAVE_OUT
        + ".",
    ),
    refusal(
        "several_masters",
        "Several nginx masters run here, and the inventory does not say which one is meant: {masters}.",
        "Set `nginx_pid_file` for this host; give each further instance an inventory name of its own.",
    ),
    refusal(
        "upgrade_in_progress",
        "Another upgrade is in progress on this host: {whose}.",
        "Finish it: {finish}. Or undo it: {undo}.",
    ),
    refusal(
        "previous_master",
        "The previous master (pid {older}) still runs, and nginx (pid {pid}) ignores USR2 until it has ended.",
        "Wait until {older} has drained: `ps -fp {older}`. `kill -TERM {older}` ends it and cuts its connections; "
        + LEAVE_OUT
        + ".",
    ),
    refusal(
        "pid_file_missing",
        "The pid file {path} of nginx (pid {pid}) does not exist; USR2 would fail and leave the master poisoned.",
        WRITE_PID + ".",
    ),
    refusal(
        "pid_file_empty",
        "The pid file {path} of nginx (pid {pid}) is empty, so scripts and systemd do not find nginx.",
        WRITE_PID + ".",
    ),
    refusal(
        "pid_file_wrong",
        "The pid file {path} holds {held!r}, but nginx has pid {pid}, so scripts and systemd signal another process.",
        WRITE_PID + ", or set `nginx_pid_file` to the right file.",
    ),
    refusal(
        "pid_file_fixed",
        "The pid file {path} can't be renamed, because {why}. So USR2 would fail and leave the master poisoned.",
        "Undo that: {cure}; then run `fleet check RELEASE`.",
    ),
    refusal(
        "supervised",
        "A supervisor runs nginx (pid {pid}) in the foreground: {parent} (pid {ppid}). Such a master ignores USR2.",
        "Remove `daemon off` from its start command or nginx.conf and restart it, " + LEAVE_OUT + ".",
    ),
    refusal(
        "daemon_off",
        "The running nginx (pid {pid}) has `daemon off` and is a child of {parent} (pid {ppid}); such a master ignores "
        "USR2 or WINCH.",
        "Remove `daemon off` from its start command or nginx.conf and restart it, " + LEAVE_OUT + ".",
    ),
    refusal(
        "pid_1",
        "The running nginx is pid 1 of its container, where it ignores USR2.",
        "Replace the container by one with the new image, " + LEAVE_OUT + ".",
    ),
    refusal(
        "relative_argv0",
        "The running nginx (pid {pid}) was started as {program!r}, not by an absolute path; USR2 may not find the binary.",
        "Restart nginx once by its absolute path, such as `/usr/sbin/nginx`.",
    ),
    refusal(
        "master_process_off",
        "The running nginx (pid {pid}) has `master_process off`; a single process can't be upgraded with USR2.",
        "Remove `master_process off` from nginx.conf and restart nginx, " + LEAVE_OUT + ".",
    ),
    refusal(
        "stopped",
        "The master (pid {pid}) is stopped (process state T) and handles no signal; its workers still serve.",
        "Find out what stopped it (a debugger?), then let it continue: `kill -CONT {pid}`.",
    ),
    refusal(
        "signals_unheard",
        "The master (pid {pid}) does not hear {signals}, which an upgrade or its way back sends. A blocked signal would "
        "stay pending for ever, and a signal without a handler would end nginx.",
        "Find the library that does this, and restart nginx without it: `grep -o '/.*[.]so.*' /proc/{pid}/maps | sort -u` "
        "lists those that are loaded (LD_PRELOAD, modules); " + LEAVE_OUT + ".",
    ),
    refusal(
        "signal_pending",
        "The master (pid {pid}) has a signal pending that it does not act on: {signals}. It may act on it at any later "
        "moment, and a late USR2 starts what lies at the binary's path then.",
        "A pending signal can't be taken back: restart nginx once at a quiet time, such as `systemctl restart nginx`; "
        + LEAVE_OUT
        + ".",
    ),
    overridable(
        "poisoned",
        "The master (pid {pid}) is poisoned by a failed USR2: each reload adds a set of workers and reads no file. "
        "Evidence: {evidence}.",
        "Do not reload it. Correct what made that USR2 fail; then start and end a new master, which cures it: "
        "`kill -USR2 {pid}`, `kill -QUIT NEW_PID`, `kill -HUP {pid}`.",
    ),
    refusal(
        "other_root",
        "The master (pid {pid}) sees another file system ({why}), so {path} is another file for it than for fleet.",
        "Give that chroot or container an inventory name of its own (`ansible_host`, `ansible_port`) that logs in there, "
        + LEAVE_OUT
        + ".",
    ),
    refusal(
        "binary_missing",
        "The file {path} is missing, and nginx (pid {pid}) would execute it at USR2.",
        "Put the running binary back: `cp /proc/{pid}/exe {path} && chmod 755 {path}`.",
    ),
    refusal(
        "not_replaceable",
        "The binary {path} can't be replaced, because {why}.",
        "Undo that: {cure}; then run `fleet check RELEASE`.",
    ),
    overridable(
        "path_differs",
        "The file {path} ({file}) is not the binary that nginx (pid {pid}) runs ({running}).",
        "Put the running binary back: `cp -p /proc/{pid}/exe {path}.tmp && mv {path}.tmp {path}`. Or restart nginx, so "
        "that it runs the file.",
    ),
    refusal(
        "shared_binary",
        "The file {path} is also the binary of another nginx instance: master {other} ({title}).",
        "Give each instance a copy of its own and set `nginx_binary`, " + LEAVE_OUT + ".",
    ),
)
