"""Kinds that differ in nginx itself: how it runs, its masters, its files, its configuration and its logs."""

from fleet.lab.hosts.disk import HOLD
from fleet.lab.hosts.nginx import CONFIG, ERROR_LOG, PID_FILE, PREFIX, PROGRAM, START, config
from fleet.lab.kinds.kind import Kind, until

SECOND = f"{PREFIX}/conf/second.conf"
SUPERVISOR = "/usr/lib/fleet-lab/supervisor"
UNHINTED = (("nginx_binary", None), ("nginx_pid_file", None))


def _second(prefix: str) -> str:
    return config(
        pid_file=f"{prefix}/logs/second.pid",
        error_log=f"{prefix}/logs/second-error.log notice",
        listen=("8080",),
    )


BEGIN_UPGRADE = (
    f"old=$(cat {PID_FILE}); kill -USR2 $old\n"
    + until(f'new=$(cat {PID_FILE} 2>/dev/null) && [ -n "$new" ] && [ $new != $old ] && [ -s {PID_FILE}.oldbin ]')
    + until("[ $(pgrep -c -P $new) = 2 ]")
)
"""Shell that begins an upgrade by hand, until the workers of both masters accept; it sets `$old` and `$new`."""
HOLD_DOWNLOAD = f"{HOLD} </dev/null >/dev/null 2>&1 &\n" + until("[ -e /run/held ]")

KINDS = (
    Kind("plain", "an ordinary host: nginx runs as a daemon from /usr/local/nginx"),
    # nginx ignores USR2, or USR2 does harm
    Kind(
        "supervised",
        "nginx runs with `daemon off` under a supervisor, so it ignores USR2",
        config=config(main="daemon off;"),
        files=((SUPERVISOR, f"#!/bin/sh\nwhile :; do {START}; sleep 1; done\n"),),
        start=f"{SUPERVISOR} & " + until(f"[ -s {PID_FILE} ]"),
    ),
    Kind(
        "daemon-off",
        "nginx runs with `daemon off` as a child of PID 1, so it ignores USR2",
        config=config(main="daemon off;"),
        start=f"{START} & " + until(f"[ -s {PID_FILE} ]"),
    ),
    Kind(
        "relative-argv0",
        "nginx was started as `nginx`, through PATH, so USR2 can't find its binary",
        start=f"PATH={PREFIX}/sbin:$PATH nginx -c {CONFIG}",
    ),
    Kind(
        "master-process-off",
        "nginx runs with `master_process off`: one process, no master",
        config=config(main="master_process off;"),
    ),
    Kind(
        "old-master-alive",
        "the old master of an earlier upgrade still serves a download, so nginx ignores USR2",
        after=HOLD_DOWNLOAD
        + BEGIN_UPGRADE
        + "kill -WINCH $old\n"
        + until("pgrep -P $old -f 'shutting down' >/dev/null")
        + "kill -QUIT $old\n"
        + until("[ $(pgrep -c -P $old) = 2 ]"),
    ),
    Kind(
        "poisoned",
        "a USR2 failed because the pid file was missing; it is back, and a reload would double the workers",
        after=f"mv {PID_FILE} {PID_FILE}.kept; kill -USR2 $(cat {PID_FILE}.kept)\n"
        + until(f"grep -q 'rename.*failed.*before executing new binary' {ERROR_LOG}")
        + f"mv {PID_FILE}.kept {PID_FILE}",
    ),
    # Masters
    Kind("no-nginx", "nginx does not run", start=""),
    Kind(
        "headless",
        "the master was killed; its workers still serve",
        after=f"old=$(cat {PID_FILE}); kill -KILL $old\n" + until("! kill -0 $old 2>/dev/null"),
    ),
    Kind(
        "two-masters",
        "two separate nginx instances run, and the inventory does not say which one to upgrade",
        files=((f"{PREFIX}-b/conf/nginx.conf", _second(f"{PREFIX}-b")),),
        before=f"mkdir -p {PREFIX}-b/sbin {PREFIX}-b/logs && cp {PROGRAM} {PREFIX}-b/sbin/nginx",
        late=f"{PREFIX}-b/sbin/nginx -c {PREFIX}-b/conf/nginx.conf",
        variables=UNHINTED,
    ),
    Kind(
        "shared-binary",
        "a second nginx with its own pid file runs from the same binary",
        files=((SECOND, _second(PREFIX)),),
        late=f"{PROGRAM} -c {SECOND}",
    ),
    Kind("by-hand", "an upgrade was begun by hand: two masters, and the workers of both accept", after=BEGIN_UPGRADE),
    Kind(
        "doubled",
        "an upgrade was begun by hand, and a reload reached the old master: it has twice its workers",
        after=BEGIN_UPGRADE + "kill -HUP $old\n" + until("[ $(pgrep -c -P $old) = 5 ]"),
    ),
    Kind(
        "orphans",
        "the new master of an upgrade by hand was killed; its workers still serve, without a master",
        after=BEGIN_UPGRADE + "kill -KILL $new\n" + until(f'[ "$(cat {PID_FILE} 2>/dev/null)" = $old ]'),
    ),
    Kind(
        "chrooted",
        "nginx runs in a chroot, so its paths name other files than the host's",
        start=f"mkdir -p /srv/jail && mount --rbind / /srv/jail && chroot /srv/jail {START}",
    ),
    Kind(
        "private-tmp",
        "nginx has its own /tmp in a mount namespace, as under a unit with PrivateTmp; it can be upgraded",
        start=f"unshare --mount /bin/sh -c 'mount -t tmpfs tmpfs /tmp && exec {START}'",
    ),
    Kind(
        "preloaded",
        "nginx was started with LD_PRELOAD, which the new master will not have",
        before="cp $(ldconfig -p | grep -m1 -o '/.*libutil.so.1') /opt/libjemalloc.so.2",
        start=f"LD_PRELOAD=/opt/libjemalloc.so.2 {START}",
    ),
    Kind("frozen", "the master is stopped (SIGSTOP) and handles no signal", after=f"kill -STOP $(cat {PID_FILE})"),
    # Files
    Kind("stale-oldbin", "nginx.pid.oldbin names a process that is gone", after=f"echo 99999999 >{PID_FILE}.oldbin"),
    Kind("pid-missing", "the pid file is missing", after=f"rm {PID_FILE}"),
    Kind("pid-empty", "the pid file is empty", after=f": >{PID_FILE}"),
    Kind("pid-lying", "the pid file names sshd instead of nginx", after=f"cp /run/sshd.pid {PID_FILE}"),
    Kind(
        "pid-dir-readonly",
        "the folder of the pid file is read-only",
        late=f"mount --bind {PREFIX}/logs {PREFIX}/logs && mount -o remount,bind,ro {PREFIX}/logs",
    ),
    Kind(
        "path-differs",
        "the file at the binary's path is not the binary that runs",
        after=f"cp {PROGRAM} {PROGRAM}.new; printf x >>{PROGRAM}.new; mv {PROGRAM}.new {PROGRAM}",
    ),
    Kind("binary-missing", "there is no file at the binary's path", after=f"mv {PROGRAM} {PROGRAM}.gone"),
    Kind(
        "path-noexec",
        "the folder of the binary is mounted noexec",
        late=f"mount --bind {PREFIX}/sbin {PREFIX}/sbin && mount -o remount,bind,noexec {PREFIX}/sbin",
    ),
    Kind(
        "symlinked-binary",
        "the binary's path is a symbolic link",
        before=f"[ -L {PROGRAM} ] || {{ mv {PROGRAM} {PROGRAM}-1 && ln -s nginx-1 {PROGRAM}; }}",
    ),
    Kind(
        "packaged",
        "nginx of the distribution's package: /usr/sbin/nginx and /run/nginx.pid, owned by dpkg",
        files=(
            (
                "/etc/nginx/nginx.conf",
                config(
                    pid_file="/run/nginx.pid",
                    error_log="/var/log/nginx/error.log notice",
                    access_log="/var/log/nginx/access.log",
                ),
            ),
        ),
        copied=("/var/lib/dpkg/status", "/var/lib/dpkg/info/nginx*"),
        start="/usr/sbin/nginx -g 'daemon on; master_process on;'",
        variables=(("nginx_binary", "/usr/sbin/nginx"), ("nginx_pid_file", "/run/nginx.pid")),
        required=("dpkg:dpkg",),
    ),
    # Configuration
    Kind(
        "pending-config",
        "a listener was added to nginx.conf, and nginx was not reloaded",
        after=f"sed -i 's/listen 80;/listen 80; listen 8088;/' {CONFIG}",
    ),
    Kind(
        "pending-touch",
        "a comment was added to nginx.conf, and nginx was not reloaded",
        after=f"echo '# changed' >>{CONFIG}",
    ),
    Kind(
        "pending-pid",
        "nginx.conf names another pid file now, and nginx was not reloaded",
        after=f"sed -i 's,^pid .*,pid {PREFIX}/logs/other.pid;,' {CONFIG}",
    ),
    Kind(
        "pending-nonsense",
        "nginx.conf has a syntax error now, and nginx was not reloaded",
        after=f"echo 'nonsense;' >>{CONFIG}",
    ),
    Kind(
        "listener-gone",
        "nginx listens on a port that nginx.conf no longer has",
        config=config(listen=("80", "8081")),
        after=f"sed -i '/listen 8081;/d' {CONFIG}",
    ),
    Kind(
        "listener-busy",
        "a listener was added to nginx.conf, on a port that sshd uses",
        after=f"sed -i 's/listen 80;/listen 80; listen 22;/' {CONFIG}",
    ),
    Kind(
        "fewer-workers",
        "nginx listens with `reuseport` for two workers, and nginx.conf has only one now",
        config=config(listen=("80 reuseport",)),
        after=f"sed -i 's/^worker_processes 2/worker_processes 1/' {CONFIG}",
    ),
    Kind(
        "unix-socket",
        "nginx also listens on a UNIX socket",
        config=config(listen=("80", "unix:/run/nginx.sock")),
    ),
    Kind(
        "sick",
        "/health answers 503 with the running release already",
        config=config(health='503 "no\\n"'),
    ),
    Kind(
        "proxy-protocol",
        "nginx expects a PROXY protocol line first, which the lab's probe does not send",
        config=config(listen=("80 proxy_protocol",)),
    ),
    # Logs
    Kind(
        "syslog-only",
        "the error log goes only to syslog",
        config=config(error_log="syslog:server=127.0.0.1:514 notice"),
    ),
    Kind("log-error", "the error log has the level `error`: no notices", config=config(error_log=f"{ERROR_LOG} error")),
    Kind("log-off", "the error log goes to /dev/null", config=config(error_log="/dev/null crit")),
    Kind("log-stderr", "the error log goes to stderr", config=config(error_log="stderr notice")),
    Kind(
        "alert-affinity",
        "each worker logs an alert at its start: it is bound to a processor that is not there",
        config=config(main=f"worker_cpu_affinity 1{'0' * 1000} 1{'0' * 1001};"),
    ),
    Kind(
        "alert-rlimit",
        "each worker logs an alert at its start: it may not raise its limit of open files",
        config=config(error_log=f"{ERROR_LOG} error", main="worker_rlimit_nofile 131072;"),
        start=f"prlimit --nofile=1024:4096 setpriv --bounding-set -sys_resource -- {START}",
        required=("prlimit:util-linux", "setpriv:util-linux"),
    ),
)
