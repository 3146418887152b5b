"""Reasons of preflight: why a host can't be upgraded, or what to know before. Nothing on the host has been changed then.

`--allow WORD` turns a refusal that is marked overridable into a warning.
"""

from fleet.onhost.reasons.reason import LEAVE_OUT, overridable, refusal, warning
from fleet.onhost.reasons.rehearsal import REHEARSAL
from fleet.onhost.reasons.running_nginx import MASTER
from fleet.onhost.reasons.systemd_unit import UNIT

OWN_BUILD = "Upgrade with a release that was built for this host"

HOST = (
    refusal(
        "psutil_missing",
        "Python can't load psutil, so the step script can't run on this host. {python} says: {why}.",
        "Install psutil for the host's Python: `apt-get install python3-psutil` (Debian, Ubuntu), "
        "`dnf install python3-psutil` (RHEL, Fedora), `zypper install python3-psutil` (SUSE) or `apk add py3-psutil` "
        "(Alpine). If the state folder is mounted noexec, set `fleet_state_dir` to another folder instead.",
    ),
    refusal(
        "no_root",
        "The login is not root but user id {uid}; only root can signal nginx and replace its binary.",
        "Set `ansible_user: root` or `ansible_become: true` for this host in the inventory.",
    ),
    refusal(
        "state_noexec",
        "The state folder {folder} is mounted noexec, so the new binary can't be tested there.",
        "Set `fleet_state_dir` to a folder on another file system, or remount: `mount -o remount,exec {mount}`.",
    ),
    refusal(
        "path_noexec",
        "The binary's folder {folder} is mounted noexec, so nginx could not execute a new binary there.",
        "Remount it: `mount -o remount,exec {mount}`.",
    ),
    refusal(
        "read_only",
        "The folder {folder} is not writable: {why}. It has to take {what}.",
        "Make it writable: `mount -o remount,rw {mount}` for a read-only mount, else see `ls -ld {folder}` and "
        "`lsattr -d {folder}`.",
    ),
    refusal(
        "disk_full",
        "The disk is too full: {folder} has {free} free, and {need} is needed for {what}.",
        "Free at least {need} on {mount}: `du -xh {mount} | sort -h | tail` shows what is large.",
    ),
    refusal(
        "no_inodes",
        "The file system has too few free inodes: {folder} has {free}, and fleet needs {need}.",
        "Delete files on {mount}: `df -i {mount}` shows the inodes.",
    ),
    overridable(
        "memory_short",
        "Memory is short: {where} has {free} free ({limit}), and a second generation of nginx needs about {need}.",
        "Free memory (`ps aux --sort=-rss | head` shows what uses most), or raise the limit named above.",
    ),
    refusal(
        "pids_short",
        "The process limit is too low: {where} may start {free} more, and a second generation of nginx needs {need}. "
        "A fork that fails would leave the running master poisoned: a reload would then only add workers.",
        "Raise the limit: {limit}. In a systemd unit, `TasksMax=` sets pids.max.",
    ),
    refusal(
        "package_lock",
        "A package manager is running: process {pid} ({title}) holds {path}. It may upgrade nginx at the same time.",
        "Wait until it has ended; `ps -fp {pid}` shows whether it still runs.",
    ),
)

RELEASE = (
    warning(
        "not_staged",
        "The release is not on the host, so its upgrade was not rehearsed: whether it starts and answers is not known, nor "
        "its modules and listeners.",
        "Test them, too: `fleet check RELEASE` without `--no-stage`.",
    ),
    refusal(
        "wrong_architecture",
        "The release is {release}, but the running nginx is {running}.",
        OWN_BUILD + ": `fleet upgrade RELEASE --limit HOST`.",
    ),
    refusal(
        "loader_missing",
        "The release needs the loader {loader}, which this host does not have.",
        OWN_BUILD + "'s C library (glibc and musl differ): `fleet upgrade RELEASE --limit HOST`.",
    ),
    refusal(
        "library_missing",
        "The release can't be loaded here. The loader says: {line}.",
        "Install that library on the host; `ldd FILE` lists what the binary needs. Or use a release built for this system: "
        "`fleet upgrade RELEASE`.",
    ),
    refusal(
        "cannot_run",
        "The release does not run here: `nginx -V` {how}.",
        "Check the file on the laptop with `sha256sum FILE`, and use a release built for this system: "
        "`fleet upgrade RELEASE`.",
    ),
    refusal(
        "other_server",
        "The release is {release}, but the running server is {running}; these two can't hand sockets to each other.",
        "Restart such a host by hand: `systemctl restart nginx`; " + LEAVE_OUT + ".",
    ),
    refusal(
        "config_rejected",
        "The configuration is rejected by {binary}: {line}.",
        "Correct that line, or use another release; then run `fleet check RELEASE`, which tests it and leaves no trace.",
    ),
    refusal(
        "module_mismatch",
        "The module {module} does not fit {binary}: {why}.",
        "{cure}. Then run `fleet check RELEASE`.",
    ),
    refusal(
        "paths_moved",
        "The new binary was built with other paths, and neither an argument nor a directive overrides them: {paths}.",
        "Build it with the same paths (`nginx -V` prints them); {how}.",
    ),
    warning(
        "build_differs",
        "The new binary was built with other options: {options}.",
        "Nothing to do if this is intended; `nginx -V` prints the options of a binary.",
    ),
    overridable(
        "modules_gone",
        "The new binary lacks modules that the running one has: {modules}.",
        "Build it with the same module options; `nginx -V` of the running binary prints them.",
    ),
)

CONFIGURATION = (
    overridable(
        "not_checked",
        "Preflight could not check {what}: {why}.",
        "Correct that, then run `fleet check RELEASE`.",
    ),
    overridable(
        "pending_config",
        "The configuration has changes that nginx has not loaded since {loaded}: {files}. An upgrade would make them live.",
        "Reload first: `kill -HUP {pid}`. If nginx rejects the files, it serves on with what it has in memory, and its error "
        "log says why.",
    ),
    refusal(
        "listener_missing",
        "The new binary would not open {listeners}, where nginx listens now; new connections there would hang, and a UNIX "
        "socket would be deleted for good.",
        "Put the `listen` directive back, or reload nginx without it, so that the running master closes it, too: "
        "`nginx -s reload`.",
    ),
    refusal(
        "listener_busy",
        "The new binary can't open {listener}: {why}.",
        "Free it (`ss -lnp` shows what has it), or remove the `listen` directive.",
    ),
    warning(
        "listener_added",
        "The new binary would open one more listener, {listener}; a rollback would close it again.",
        "Nothing to do if this is intended; else reload before the upgrade: `nginx -s reload`.",
    ),
    refusal(
        "fewer_workers",
        "The new binary would open {listener} {opened} times instead of {held} times (reuseport); connections on the "
        "other sockets would be lost.",
        "Set `worker_processes {held};` in nginx.conf and reload: `nginx -s reload`.",
    ),
    warning(
        "processors_changed",
        "The new release would start {processors} workers, where nginx (pid {pid}) has {has}: with `worker_processes auto` "
        "nginx counts the processors when it is started, and the host has {processors} of them now.",
        "Nothing to do if that is enough. Else set `worker_processes {has};` in nginx.conf and reload: `nginx -s reload`. "
        "With `auto` a reload changes nothing.",
    ),
    overridable(
        "quic",
        "HTTP/3 is on ({listener}) without `quic_bpf on`, so its connections would break during the upgrade.",
        "Set `quic_bpf on;` and `reuseport` in nginx.conf and restart nginx, or take the host out of the load balancer.",
    ),
    overridable(
        "probe_fails_already",
        "The running release fails a probe already, `fleet_probes[{number}]`: {problem}. So the probe could not tell a bad "
        "new release from a good one.",
        "Correct what it asks for, or that entry of `fleet_probes` in the inventory ({advice}); then run "
        "`fleet check RELEASE`.",
    ),
    warning(
        "no_error_log",
        "The error log can't be read ({where}), so the new master is judged without it.",
        "Set `error_log` to a file in nginx.conf if it should be judged.",
    ),
    warning(
        "env_lost",
        "The running nginx (pid {pid}) was started with {variables}, and the new master would be without: nginx keeps only "
        "what `env` names.",
        "Name them in nginx.conf (`env NAME;`) and restart nginx once; a preloaded library can be named in "
        "/etc/ld.so.preload instead.",
    ),
)

PACKAGES = (
    warning(
        "packaged",
        "The package {package} {version} owns {path}: its next upgrade replaces the binary and restarts nginx. Until then its "
        "database, and what reads that, goes on naming {version}.",
        "Hold the package: `{hold}`, or let fleet do and undo it with `--hold-package`.",
    ),
    warning(
        "package_upgrade_comes",
        "The package {package} may be upgraded at any time by {by}: {change}. On a held host its script would end the old "
        "master, or restart nginx.",
        "Hold the package until the commit: `{hold}`, or let fleet do and undo it with `--hold-package`.",
    ),
    warning(
        "package_run_now",
        "The unit {unit} upgrades packages on this host just now. If {package} is among them, its script restarts nginx, or "
        "ends the old master of a held host.",
        "Let it end first: `systemctl status {unit}`. Or hold the package: `{hold}`.",
    ),
)

SERVICE = UNIT + PACKAGES
PREFLIGHT = HOST + MASTER + RELEASE + CONFIGURATION + REHEARSAL + SERVICE
