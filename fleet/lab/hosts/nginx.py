"""The nginx of a pretend host: a copy of this machine's binary, in the layout of `--prefix=/usr/local/nginx` or in the
one of Debian's package.

Debian's binary has the paths of the package compiled in, so the configuration names every path.
"""

import sys
from array import array
from dataclasses import dataclass
from pathlib import Path

BINARY = Path("/usr/sbin/nginx")
"""This machine's nginx, which the hosts get a copy of."""
PREFIX = "/usr/local/nginx"
PROGRAM = f"{PREFIX}/sbin/nginx"
CONFIG = f"{PREFIX}/conf/nginx.conf"
PID_FILE = f"{PREFIX}/logs/nginx.pid"
ERROR_LOG = f"{PREFIX}/logs/error.log"
ACCESS_LOG = f"{PREFIX}/logs/access.log"
START = f"{PROGRAM} -c {CONFIG}"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a host has what belongs to its nginx."""

    program: str
    config: str
    pid_file: str
    error_log: str
    access_log: str


OWN = Layout(PROGRAM, CONFIG, PID_FILE, ERROR_LOG, ACCESS_LOG)
PACKAGED = Layout(
    "/usr/sbin/nginx",
    "/etc/nginx/nginx.conf",
    "/run/nginx.pid",
    "/var/log/nginx/error.log",
    "/var/log/nginx/access.log",
)
"""As Debian's package has it, and the one of nginx.org."""
WORKERS = 2
SERVES = f"[ $(pgrep -c -f 'nginx: worker proces[s]$') -ge {WORKERS} ]"
"""Shell that is true on a host once its nginx has forked its workers."""
BIG_BYTES = 8 << 20


def config(
    *,
    pid_file: str = PID_FILE,
    error_log: str = f"{ERROR_LOG} notice",
    access_log: str = ACCESS_LOG,
    listen: tuple[str, ...] = ("80",),
    main: str = "",
    health: str = '200 "ok\\n"',
) -> str:
    """An `nginx.conf`. `main` is one more line of the main context, `health` what /health returns."""
    listens = "".join(f"        listen {where};\n" for where in listen)
    return f"""\
user www-data;
worker_processes {WORKERS};
pid {pid_file};
error_log {error_log};
{main}
events {{
    worker_connections 1024;
}}

http {{
    access_log {access_log};
    sendfile on;
    default_type text/plain;
    server {{
{listens}        server_name _;
        root {PREFIX}/html;
        location = / {{ return 200 "nginx/$nginx_version on $hostname\\n"; }}
        location = /health {{ return {health}; }}
        location = /slow.bin {{ alias {PREFIX}/html/big.bin; limit_rate 1k; }}
    }}
}}
"""


def big_file() -> bytes:
    """The contents of `/big.bin`: the numbers from 0, four bytes each, so that a client can check what it got."""
    numbers = array("I", range(BIG_BYTES // 4))
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()
