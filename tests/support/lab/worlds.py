"""Worlds in which an nginx master may live on a lab host: for tests that a rehearsal there shows all and leaves no trace."""

from dataclasses import dataclass

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import CONFIG, PID_FILE, PROGRAM, START
from fleet.lab.kinds.kind import until

END = f"kill -QUIT $(cat {PID_FILE}); " + until(f"! [ -e {PID_FILE} ]")
SRV = "/srv/web"
SINK = 'location = /sink { return 200 "ok\\n"; } location = /health { return 200 "ok\\n"; }'
UPLOAD = "location = /up { proxy_pass http://127.0.0.1:%s/sink; }"
TEMP = "client_body_temp_path %s/body; proxy_temp_path %s/proxy; client_body_buffer_size 1k;"


@dataclass(frozen=True, slots=True)
class World:
    """How a host's nginx is started in it, by shell; its pid file; where uploads go; and the URL of a probe.

    `files` lie on the host before; `change` is shell that changes the files after nginx has loaded them. `own_folders`
    are those that only this nginx sees.
    """

    name: str
    files: tuple[tuple[str, str], ...] = ()
    start: str = START
    before: str = ""
    change: str = ""
    pid_file: str = PID_FILE
    upload: str = "http://127.0.0.1:80/up"
    probe: str = "http://127.0.0.1/health"
    own_folders: tuple[str, ...] = ()

    def shell(self) -> str:
        """Shell that ends the plain nginx of a host and starts this one."""
        parts = [END, self.before, f"{self.start}\n{until(f'[ -s {self.pid_file} ]')}{until(READY)}", self.change]
        return "\n".join(part for part in parts if part)


USERS_WRITE = frozenset(
    f"{folder}/{name}"
    for folder in ("/usr/local/nginx/logs", f"{SRV}/logs", f"{SRV}/tmp", "/var/tmp/web", "/tmp/nginx", "/var/log")
    for name in ("access.log", "error.log", "body", "proxy", "access.log.1", "web.log", "web.log.1")
)
"""What changes on these hosts when users upload."""

READY = "pgrep -f 'nginx: worker proces[s]$' >/dev/null"


def conf(http: str, main: str = "user www-data;", pid: str = PID_FILE, log: str = "/usr/local/nginx/logs") -> str:
    return (
        f"{main}\nworker_processes 2;\npid {pid};\nerror_log {log}/error.log notice;\nevents {{}}\n"
        f"http {{ access_log {log}/access.log;\n{http}\n}}\n"
    )


def server(listen: str = "80", port: str = "80", more: str = "") -> str:
    return f"server {{ listen {listen}; {SINK} {UPLOAD % port} {more} }}"


def with_temp(folder: str) -> str:
    return TEMP % (folder, folder)


UNPRIVILEGED = conf(
    with_temp(f"{SRV}/tmp")
    + f" fastcgi_temp_path {SRV}/tmp/f; uwsgi_temp_path {SRV}/tmp/u; scgi_temp_path {SRV}/tmp/s;"
    + server("8080", "8080"),
    main="",
    pid=f"{SRV}/logs/nginx.pid",
    log=f"{SRV}/logs",
)
AS_1234 = f"setpriv --reuid=1234 --regid=1234 --clear-groups {PROGRAM} -c {SRV}/nginx.conf"
OWN_SRV = f"mkdir -p {SRV}/logs {SRV}/tmp; chown -R 1234:1234 {SRV}"
PLAIN = conf(with_temp("/var/tmp/web") + server())
MANY = "\n".join(
    f"server {{ listen 80; server_name s{n}.example.net; access_log /usr/local/nginx/logs/s{n}.log; return 200 ok; }}"
    for n in range(1100)
)

NEW_SITE = (
    "server { listen unix:/run/new-site.sock; access_log /usr/local/nginx/logs/newsite.log; "
    "client_body_temp_path /var/lib/new-site/body 1 2; return 200 ok; }"
)

WORLDS = (
    World("plain", ((CONFIG, PLAIN),), before="mkdir -p /var/tmp/web"),
    World(
        "unprivileged",
        ((f"{SRV}/nginx.conf", UNPRIVILEGED),),
        start=AS_1234,
        before=OWN_SRV,
        pid_file=f"{SRV}/logs/nginx.pid",
        upload="http://127.0.0.1:8080/up",
        probe="http://127.0.0.1:8080/health",
    ),
    World(
        "unprivileged-log-moved",
        ((f"{SRV}/nginx.conf", UNPRIVILEGED),),
        start=AS_1234,
        before=OWN_SRV,
        change=f"mv {SRV}/logs/access.log {SRV}/logs/access.log.1",
        pid_file=f"{SRV}/logs/nginx.pid",
        upload="http://127.0.0.1:8080/up",
        probe="http://127.0.0.1:8080/health",
    ),
    World(
        "new-site",
        ((CONFIG, PLAIN),),
        before="mkdir -p /var/tmp/web /var/lib/new-site",
        # A change within 0.03 s of the start is not told from the start: start times are rounded to a tick.
        change=f"sleep 0.1; sed -i 's,^http {{,http {{ {NEW_SITE},' {CONFIG}",
    ),
    World(
        "private-tmp",
        ((CONFIG, conf(with_temp("/tmp/nginx") + server(more="access_log /tmp/nginx/access.log;"))),),
        start="unshare -m --propagation slave sh -c 'mount -t tmpfs -o mode=1777 tmpfs /tmp; mkdir /tmp/nginx; "
        f"exec {START}'",
        own_folders=("/tmp",),
    ),
    World(
        "own-root",
        ((CONFIG, PLAIN),),
        start="unshare -m --propagation slave sh -c 'mkdir -p /srv/jail && mount --rbind / /srv/jail && cd /srv/jail && "
        f"mkdir -p var/tmp/web && exec chroot . {START}'",
    ),
    World(
        "many-logs",
        ((CONFIG, conf(with_temp("/var/tmp/web") + server(more="server_name main;") + MANY)),),
        before="mkdir -p /var/tmp/web; ulimit -Hn 20000 2>/dev/null; ulimit -n 20000",
    ),
    World(
        "unix-sockets",
        (
            (
                CONFIG,
                conf(
                    with_temp("/var/tmp/web")
                    + "upstream app { server unix:/run/app.sock; }"
                    + server()
                    + server("80 reuseport; listen [::]:80 reuseport; listen unix:/run/web.sock", more="server_name b;")
                    + "server { listen 127.0.0.1:8081; location / { proxy_pass http://app; } }"
                ),
            ),
        ),
        before="mkdir -p /var/tmp/web; setsid python3 -c 'import socket, sys\n"
        's = socket.socket(socket.AF_UNIX); s.bind("/run/app.sock"); s.listen(5)\n'
        'while True:\n c, _ = s.accept(); print("MET", flush=True); c.close()\' </dev/null >/run/app.met 2>&1 &\n'
        + until("[ -S /run/app.sock ]"),
    ),
    World(
        "address-moved-away",
        ((CONFIG, conf(with_temp("/var/tmp/web") + server() + "server { listen 198.51.100.7:8443; return 200 ok; }")),),
        before="mkdir -p /var/tmp/web; ip addr add 198.51.100.7/32 dev lo",
        change="ip addr del 198.51.100.7/32 dev lo",
    ),
    World(
        "missing-folders",
        (
            (
                CONFIG,
                conf(
                    with_temp("/var/tmp/web")
                    + "proxy_cache_path /var/cache/web/one levels=1:2 keys_zone=one:1m;"
                    + server(more="access_log /var/log/web.log;")
                ),
            ),
        ),
        before="mkdir -p /var/tmp/web /var/cache/web",
        change="rm -r /var/cache/web/one; mv /var/log/web.log /var/log/web.log.1",
    ),
    World(
        "limited",
        ((f"{SRV}/nginx.conf", UNPRIVILEGED.replace("8080", "88", 2)),),
        start="setpriv --reuid=1234 --regid=1234 --groups 1235 --inh-caps=+net_bind_service --ambient-caps=+net_bind_service "
        f"--bounding-set=-all,+net_bind_service --no-new-privs {PROGRAM} -c {SRV}/nginx.conf",
        before=OWN_SRV,
        pid_file=f"{SRV}/logs/nginx.pid",
        upload="http://127.0.0.1:88/up",
        probe="http://127.0.0.1:88/health",
    ),
)


def put(host: LabHost, path: str, text: str) -> None:
    done = host.exec(["/bin/sh", "-euc", 'mkdir -p "$(dirname $0)"; cat > $0', path], input=text.encode())
    assert done.returncode == 0, done.stderr
