"""Kinds whose PID 1 is systemd: they differ in the unit that runs nginx, in logins, and in limits."""

from fleet.lab.folder import Init
from fleet.lab.hosts.nginx import PACKAGED, config
from fleet.lab.kinds.kind import Kind

UNIT_FILE = "/usr/lib/systemd/system/nginx.service"
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


def _kind(name: str, summary: str, unit: str = DEBIAN, *, for_all: bool = False) -> Kind:
    return Kind(
        name,
        summary,
        init=Init.SYSTEMD,
        layout=PACKAGED,
        config=config(
            pid_file=PACKAGED.pid_file, error_log=f"{PACKAGED.error_log} notice", access_log=PACKAGED.access_log
        ),
        files=((UNIT_FILE, unit),),
        for_all=for_all,
    )


KINDS = (_kind("systemd", "systemd is PID 1, and Debian's unit runs nginx from /usr/sbin/nginx", for_all=True),)
