"""Kinds whose PID 1 is systemd: they differ in the unit that runs nginx, in logins, and in limits."""

from typing import Any

from fleet.lab.folder import Init
from fleet.lab.hosts.disk import DEPLOY
from fleet.lab.hosts.nginx import PACKAGED, SERVES, config
from fleet.lab.kinds.kind import Kind, until
from fleet.lab.kinds.system_kinds import MAY_BECOME_ROOT, SUDO

UNIT_FILE = "/usr/lib/systemd/system/nginx.service"
DROP_IN = "/etc/systemd/system/nginx.service.d/kind.conf"
DEBIAN = f"""\
[Unit]
Description=A high performance web server and a reverse proxy server
Documentation=man:nginx(8)
After=network-online.target remote-fs.target nss-lookup.target
Wants=network-online.target

[Service]
Type=forking
PIDFile={PACKAGED.pid_file}
ExecStartPre={PACKAGED.program} -t -q -g 'daemon on; master_process on;'
ExecStart={PACKAGED.program} -g 'daemon on; master_process on;'
ExecReload={PACKAGED.program} -g 'daemon on; master_process on;' -s reload
ExecStop=-/sbin/start-stop-daemon --quiet --stop --retry QUIT/5 --pidfile {PACKAGED.pid_file}
TimeoutStopSec=5
KillMode=mixed

[Install]
WantedBy=multi-user.target
"""
"""The unit of Debian's package, as in its 1.22.1-9."""


NGINX_ORG = f"""\
[Unit]
Description=nginx - high performance web server
Documentation=https://nginx.org/en/docs/
After=network-online.target remote-fs.target nss-lookup.target
Wants=network-online.target

[Service]
Type=forking
PIDFile={PACKAGED.pid_file}
ExecStart={PACKAGED.program} -c {PACKAGED.config}
ExecReload=/bin/sh -c "/bin/kill -s HUP $(/bin/cat {PACKAGED.pid_file})"
ExecStop=/bin/sh -c "/bin/kill -s TERM $(/bin/cat {PACKAGED.pid_file})"

[Install]
WantedBy=multi-user.target
"""
"""The unit of nginx.org's packages."""
RED_HAT = f"""\
[Unit]
Description=The nginx HTTP and reverse proxy server
After=network-online.target remote-fs.target nss-lookup.target
Wants=network-online.target

[Service]
Type=forking
PIDFile={PACKAGED.pid_file}
ExecStartPre=/usr/bin/rm -f {PACKAGED.pid_file}
ExecStartPre={PACKAGED.program} -t
ExecStart={PACKAGED.program}
ExecReload=/bin/kill -s HUP $MAINPID
KillSignal=SIGQUIT
TimeoutStopSec=5
KillMode=mixed
PrivateTmp=true

[Install]
WantedBy=multi-user.target
"""
"""As in the packages of Red Hat's family: every signal goes to the process that systemd takes for the master."""
ONESHOT = f"""\
[Unit]
Description=nginx, started and left alone
After=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={PACKAGED.program}
ExecReload={PACKAGED.program} -s reload
ExecStop={PACKAGED.program} -s quit

[Install]
WantedBy=multi-user.target
"""
# A mount is made on each of ExecPaths, so that nginx's own file becomes a mount point.
EXEC_PATHS = f"{PACKAGED.program} /sbin/start-stop-daemon -/lib -/lib64 -/usr/lib -/usr/lib64"
STRICT = f"""\
ProtectSystem=strict
ReadWritePaths=/run /var/log/nginx /var/lib/nginx
NoExecPaths=/
ExecPaths={EXEC_PATHS}
"""
HARDENED = """\
ProtectSystem=strict
ReadWritePaths=/run /var/log/nginx /var/lib/nginx
ReadOnlyPaths=/etc/nginx
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETUID CAP_KILL
LimitNOFILE=65536
"""
LIMITS = "TasksMax=24\nMemoryMax=128M\n"
LOGOUT_KILLS = ("/etc/systemd/logind.conf.d/kill.conf", "[Login]\nKillUserProcesses=yes\n")
# Ubuntu's needrestart does so when it is run without a terminal.
AUTOMATIC = ("/etc/needrestart/conf.d/automatic.conf", "$nrconf{restart} = 'a';\n")
# `su` makes a session where there is none: what it starts is in the scope of a login, as after `ssh root@host nginx`.
SU = (
    "/etc/pam.d/su",
    "auth sufficient pam_rootok.so\naccount required pam_permit.so\nsession optional pam_systemd.so\n",
)


def _kind(name: str, summary: str, unit: str | None = DEBIAN, *, drop_in: str = "", **settings: Any) -> Kind:
    """A kind whose nginx is run by this unit, or by the installed one, with these lines for its section `[Service]`."""
    own: tuple[tuple[str, str], ...] = ((UNIT_FILE, unit),) if unit else ()
    if drop_in:
        own += ((DROP_IN, f"[Service]\n{drop_in}"),)
    common: dict[str, Any] = {
        "init": Init.SYSTEMD,
        "layout": PACKAGED,
        "config": config(
            pid_file=PACKAGED.pid_file, error_log=f"{PACKAGED.error_log} notice", access_log=PACKAGED.access_log
        ),
        **settings,
    }
    return Kind(name, summary, **{**common, "files": (*own, *settings.get("files", ()))})


KINDS = (
    _kind("systemd", "systemd is PID 1, and Debian's unit runs nginx from /usr/sbin/nginx", for_all=True),
    _kind("systemd-nginx-org", "the unit of nginx.org's packages: reload and stop go by the pid file", NGINX_ORG),
    _kind("systemd-mainpid", "a unit as Red Hat's: reload and stop go to the MainPID that systemd keeps", RED_HAT),
    _kind(
        "systemd-killmode-process",
        "a unit that at a stop signals the MainPID alone, and leaves all others alive",
        RED_HAT,
        drop_in="KillMode=process\n",
    ),
    _kind(
        "systemd-killmode-mixed",
        "Debian's unit without ExecStop: a stop signals the MainPID, and after 5 s kills all others",
        drop_in="ExecStop=\nKillSignal=SIGQUIT\n",
    ),
    _kind(
        "systemd-restart-always",
        "Debian's unit with Restart=always: systemd starts nginx again when its master has ended",
        drop_in="Restart=always\n",
    ),
    _kind(
        "systemd-strict",
        "Debian's unit lets nginx execute its own file and the libraries only (ExecPaths)",
        drop_in=STRICT,
    ),
    _kind(
        "systemd-hardened",
        "Debian's unit with a read-only system, its own /tmp and /dev, and few capabilities",
        drop_in=HARDENED,
    ),
    _kind(
        "systemd-sudo",
        f"the login is {DEPLOY}, which becomes root by sudo; logind kills what a logout leaves behind",
        files=(*SUDO, MAY_BECOME_ROOT, LOGOUT_KILLS),
        after="chmod 0440 /etc/sudoers",
        user=DEPLOY,
        variables=(("ansible_become", True),),
    ),
    _kind(
        "systemd-limits",
        "Debian's unit with TasksMax and MemoryMax, on cgroups of version 1 and 2 (hybrid)",
        drop_in=LIMITS,
        init=Init.SYSTEMD_HYBRID,
    ),
    _kind("systemd-oneshot", "a unit of Type=oneshot that starts nginx and does not follow it", ONESHOT),
    _kind(
        "systemd-by-hand",
        "nginx was started by hand from a login, and its unit is not active",
        files=(SU,),
        after=f"systemctl --quiet disable --now nginx && su root -c {PACKAGED.program}\n" + until(SERVES),
    ),
    _kind(
        "debian-package",
        "nginx is installed as Debian's package, its unit too, and dpkg can install another one",
        None,
        has_dpkg=True,
    ),
    _kind(
        "needrestart",
        "as debian-package, and needrestart restarts by itself what runs from a replaced file",
        None,
        has_dpkg=True,
        installed=("needrestart",),
        files=(AUTOMATIC,),
    ),
)
