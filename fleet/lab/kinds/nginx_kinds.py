"""Odd hosts whose nginx is odd: how it runs, who is master, what its files, its configuration and its logs are like.

Where the shell of a kind waits, it waits for what it caused.
"""

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
"""What a person does by hand, so far that both masters' workers accept; leaves `$old` and `$new`."""
HOLD_DOWNLOAD = f"{HOLD} </dev/null >/dev/null 2>&1 &\n" + until("[ -e /run/held ]")

KINDS = (
    Kind("plain", "an ordinary host: nginx daemonized under /usr/local/nginx"),
    # USR2 would be ignored, or do harm
    Kind(
        "supervised",
        "`daemon off` under a supervisor that lives: USR2 is ignored",
        config=config(main="daemon off;"),
        files=((SUPERVISOR, f"#!/bin/sh\nwhile :; do {START}; sleep 1; done\n"),),
        start=f"{SUPERVISOR} & " + until(f"[ -s {PID_FILE} ]"),
    ),
    Kind(
        "daemon-off",
        "`daemon off` as a child of PID 1: USR2 is ignored for ever",
        config=config(main="daemon off;"),
        start=f"{START} & " + until(f"[ -s {PID_FILE} ]"),
    ),
    Kind(
        "relative-argv0",
        "nginx was started as `nginx`, found through PATH: USR2 finds nothing to execute",
        start=f"PATH={PREFIX}/sbin:$PATH nginx -c {CONFIG}",
    ),
    Kind(
        "master-process-off", "`master_process off`: one process, no master", config=config(main="master_process off;")
    ),
    Kind(
        "old-master-alive",
        "the old master of an upgrade before still drains a download: USR2 is ignored",
        after=HOLD_DOWNLOAD
        + BEGIN_UPGRADE
        + "kill -WINCH $old\n"
        + until("pgrep -P $old -f 'shutting down' >/dev/null")
        + "kill -QUIT $old\n"
        + until("[ $(pgrep -c -P $old) = 2 ]"),
    ),
    Kind(
        "poisoned",
        "a USR2 failed for want of the pid file, which is back: a reload would double the workers",
        after=f"mv {PID_FILE} {PID_FILE}.kept; kill -USR2 $(cat {PID_FILE}.kept)\n"
        + until(f"grep -q 'rename.*failed.*before executing new binary' {ERROR_LOG}")
        + f"mv {PID_FILE}.kept {PID_FILE}",
    ),
    # Who is master
    Kind("no-nginx", "nginx doesn't run", start=""),
    Kind(
        "headless",
        "the master was killed, its workers still serve",
        after=f"old=$(cat {PID_FILE}); kill -KILL $old\n" + until("! kill -0 $old 2>/dev/null"),
    ),
    Kind(
        "two-masters",
        "two separate nginx, and the inventory doesn't say which",
        files=((f"{PREFIX}-b/conf/nginx.conf", _second(f"{PREFIX}-b")),),
        before=f"mkdir -p {PREFIX}-b/sbin {PREFIX}-b/logs && cp {PROGRAM} {PREFIX}-b/sbin/nginx",
        late=f"{PREFIX}-b/sbin/nginx -c {PREFIX}-b/conf/nginx.conf",
        variables=UNHINTED,
    ),
    Kind(
        "shared-binary",
        "a second nginx with its own pid file runs the same binary",
        files=((SECOND, _second(PREFIX)),),
        late=f"{PROGRAM} -c {SECOND}",
    ),
    Kind("by-hand", "somebody sent USR2 by hand: two masters, both accept", after=BEGIN_UPGRADE),
    Kind(
        "doubled",
        "by hand, then a reload that reached the old master: it has twice its workers",
        after=BEGIN_UPGRADE + "kill -HUP $old\n" + until("[ $(pgrep -c -P $old) = 5 ]"),
    ),
    Kind(
        "orphans",
        "the new master of an upgrade by hand was killed: its workers serve on, without a master",
        after=BEGIN_UPGRADE + "kill -KILL $new\n" + until(f'[ "$(cat {PID_FILE} 2>/dev/null)" = $old ]'),
    ),
    Kind(
        "chrooted",
        "nginx lives in a chroot: its paths are other files than ours",
        start=f"mkdir -p /srv/jail && mount --rbind / /srv/jail && chroot /srv/jail {START}",
    ),
    Kind(
        "private-tmp",
        "nginx has a mount namespace with a /tmp of its own, as units with PrivateTmp have: it can be upgraded",
        start=f"unshare --mount /bin/sh -c 'mount -t tmpfs tmpfs /tmp && exec {START}'",
    ),
    Kind(
        "preloaded",
        "nginx was started with a library by LD_PRELOAD, which the new master will not have",
        before="cp $(ldconfig -p | grep -m1 -o '/.*libutil.so.1') /opt/libjemalloc.so.2",
        start=f"LD_PRELOAD=/opt/libjemalloc.so.2 {START}",
    ),
    Kind("frozen", "the master is stopped (SIGSTOP) and obeys nobody", after=f"kill -STOP $(cat {PID_FILE})"),
    # Files
    Kind("stale-oldbin", "an nginx.pid.oldbin that names nobody", after=f"echo 99999999 >{PID_FILE}.oldbin"),
    Kind("pid-missing", "the pid file is gone", after=f"rm {PID_FILE}"),
    Kind("pid-empty", "the pid file is empty", after=f": >{PID_FILE}"),
    Kind("pid-lying", "the pid file names sshd", after=f"cp /run/sshd.pid {PID_FILE}"),
    Kind(
        "pid-dir-readonly",
        "the pid file's folder is read-only",
        late=f"mount --bind {PREFIX}/logs {PREFIX}/logs && mount -o remount,bind,ro {PREFIX}/logs",
    ),
    Kind(
        "path-differs",
        "the file at the binary's path is not what runs",
        after=f"cp {PROGRAM} {PROGRAM}.new; printf x >>{PROGRAM}.new; mv {PROGRAM}.new {PROGRAM}",
    ),
    Kind("binary-missing", "there is no file at the binary's path", after=f"mv {PROGRAM} {PROGRAM}.gone"),
    Kind(
        "path-noexec",
        "the binary's folder is mounted noexec",
        late=f"mount --bind {PREFIX}/sbin {PREFIX}/sbin && mount -o remount,bind,noexec {PREFIX}/sbin",
    ),
    Kind(
        "symlinked-binary",
        "the binary's path is a symbolic link",
        before=f"[ -L {PROGRAM} ] || {{ mv {PROGRAM} {PROGRAM}-1 && ln -s nginx-1 {PROGRAM}; }}",
    ),
    Kind(
        "packaged",
        "nginx as the distribution's package has it: /usr/sbin/nginx, /run/nginx.pid, owned by dpkg",
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
        required_programs=("dpkg",),
    ),
    # Configuration
    Kind(
        "pending-config",
        "a listener was added to nginx.conf and nginx not reloaded",
        after=f"sed -i 's/listen 80;/listen 80; listen 8088;/' {CONFIG}",
    ),
    Kind("pending-touch", "nginx.conf got a comment and nginx no reload", after=f"echo '# changed' >>{CONFIG}"),
    Kind(
        "pending-pid",
        "another pid file was put into nginx.conf and nginx not reloaded",
        after=f"sed -i 's,^pid .*,pid {PREFIX}/logs/other.pid;,' {CONFIG}",
    ),
    Kind("pending-nonsense", "nginx.conf was spoilt, and nginx not reloaded", after=f"echo 'nonsense;' >>{CONFIG}"),
    Kind(
        "listener-gone",
        "nginx listens on a port that is not in nginx.conf any more",
        config=config(listen=("80", "8081")),
        after=f"sed -i '/listen 8081;/d' {CONFIG}",
    ),
    Kind(
        "listener-busy",
        "a listener was added to nginx.conf, on a port that sshd has",
        after=f"sed -i 's/listen 80;/listen 80; listen 22;/' {CONFIG}",
    ),
    Kind(
        "fewer-workers",
        "`reuseport` for two workers, and nginx.conf has one by now",
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
        "/health answers 503 before anything was done",
        config=config(health='503 "no\\n"'),
    ),
    # Evidence
    Kind(
        "syslog-only",
        "the error log goes to syslog only",
        config=config(error_log="syslog:server=127.0.0.1:514 notice"),
    ),
    Kind("log-error", "the error log is at `error`: no notices", config=config(error_log=f"{ERROR_LOG} error")),
    Kind("log-off", "the error log goes to /dev/null", config=config(error_log="/dev/null crit")),
    Kind("log-stderr", "the error log goes to stderr", config=config(error_log="stderr notice")),
)
