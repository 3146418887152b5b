"""A real nginx of the test's own: its prefix in a temporary folder, its port on the loopback, ended by pid.

For tests that need one nginx and no host around it; the lab has whole hosts.
"""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

DEADLINE_S = 20.0
BIG_BYTES = 8 * 1024 * 1024
# Workers of root: another pytest that starts takes all others' access to the temporary folders of this one.
CONFIG = """
user root;
worker_processes 2;
error_log logs/error.log notice;
pid logs/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root html;
        location = /health {{ return 200 "ok\\n"; }}
        location = /teapot {{ return 418 "ok\\n"; }}
        location = /trickle.bin {{ limit_rate 2000; }}
        location = /once {{ keepalive_timeout 0; return 200 "ok\\n"; }}
        {more}
    }}
}}
"""


def wait_until(true: Callable[[], bool], what: str, within_s: float = DEADLINE_S) -> None:
    """Return as soon as it is so; fail the test after the deadline."""
    ends_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends_s, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.01)


def stop(pid: int) -> None:
    """Stop the process, and return once it has stopped: on a busy machine a signal takes its time to act."""
    os.kill(pid, signal.SIGSTOP)
    state = Path(f"/proc/{pid}/stat")
    wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", f"pid {pid} has stopped")


class PrivateNginx:
    """nginx under `folder`, run from `folder/sbin/nginx`, a copy of `binary`.

    `main` and `more` are lines of the configuration: in its main context, and in its server. `start` are the words of a
    command that starts it.
    """

    def __init__(
        self, folder: Path, binary: Path = Path("/usr/sbin/nginx"), more: str = "", main: str = "", start: str = ""
    ) -> None:
        self.folder = folder
        self.launcher = start.split()
        self.binary = folder / "sbin" / "nginx"
        self.log = folder / "logs" / "error.log"
        self.pid_file = folder / "logs" / "nginx.pid"
        self.port = _free_port()
        for name in ("sbin", "logs", "tmp", "html", "conf"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.install(binary)
        with (folder / "html" / "big.bin").open("wb") as big:
            big.truncate(BIG_BYTES)
        (folder / "html" / "trickle.bin").write_bytes(b"." * 3000)  # takes about a second
        (folder / "conf" / "nginx.conf").write_text(main + CONFIG.format(port=self.port, more=more))

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def install(self, binary: Path) -> None:
        """The binary's path holds these bytes, in one moment; a process that runs the old ones keeps them."""
        part = self.binary.with_name("nginx.part")
        part.write_bytes(binary.read_bytes())
        part.chmod(binary.stat().st_mode)
        part.replace(self.binary)

    def run(self, *more: str) -> "subprocess.CompletedProcess[str]":
        argv = [*self.launcher, str(self.binary), "-p", f"{self.folder}/", "-c", "conf/nginx.conf", *more]
        return subprocess.run(argv, text=True, capture_output=True, timeout=DEADLINE_S, check=False)

    def start(self) -> "PrivateNginx":
        done = self.run()
        assert done.returncode == 0, done.stderr
        wait_until(lambda: self.pid_file.exists() and self.pid_file.read_text().strip() != "", "a pid file")
        return self

    def start_well(self) -> "PrivateNginx":
        self.start().wait_for_workers(self.master())
        return self

    def master(self, which: str = "") -> int:
        """The pid in `nginx.pid`, or in `nginx.pid.oldbin`."""
        return int((self.folder / "logs" / f"nginx.pid{which}").read_text())

    def workers(self, master: int) -> list[int]:
        """The pids of a master's workers that accept or may yet."""
        children = [pid for pid in self.processes() if _stat(pid)[:2] == ("nginx", master)]
        return [pid for pid in children if _title(pid) == "nginx: worker process"]

    def wait_for_workers(self, master: int) -> None:
        wait_until(lambda: len(self.workers(master)) == 2, f"two workers of {master}")

    def wait_for_end(self, pid: int) -> None:
        wait_until(lambda: pid not in self.processes(), f"the end of {pid}")

    def upgrade(self, release: Path) -> tuple[int, int]:
        """Put a release in place and launch it: the old master and the new one, with its workers."""
        old = self.master()
        self.install(release)
        os.kill(old, signal.SIGUSR2)
        wait_until(lambda: self.new_master(old) is not None, "a new master's pid file")
        new = self.master()
        self.wait_for_workers(new)
        return old, new

    def new_master(self, old: int) -> int | None:
        """The pid in `nginx.pid` once it is not the old master's; there is a moment without that file."""
        try:
            text = self.pid_file.read_text().strip()
        except FileNotFoundError:
            return None
        return int(text) if text and text != str(old) else None

    def drain(self, master: int) -> None:
        os.kill(master, signal.SIGWINCH)
        wait_until(lambda: not self.workers(master), f"no accepting worker of {master}")

    def waiting_connections(self) -> int:
        """How many connections the kernel has taken and no worker has accepted."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        local = f"0100007F:{self.port:04X}"
        return sum(int(row[4].partition(":")[2], 16) for row in rows if row[1] == local and row[3] == "0A")

    def processes(self) -> list[int]:
        """Every process that has this nginx's error log open: masters, workers and orphans alike."""
        return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and self._has_log(entry)]

    def _has_log(self, pid: str) -> bool:
        try:
            return any(os.readlink(f"/proc/{pid}/fd/{fd}") == str(self.log) for fd in os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            return False

    def get(self, path: str = "/health", within_s: float = DEADLINE_S) -> bytes:
        """The whole answer to one request on a connection of its own; empty when nothing came. Raises TimeoutError."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=within_s) as client:
            client.sendall(f"GET {path} HTTP/1.0\r\nHost: lab\r\n\r\n".encode())
            answer = b""
            while part := client.recv(65536):
                answer += part
        return answer

    def logged(self, pattern: str) -> bool:
        return re.search(pattern, self.log.read_text(errors="replace")) is not None

    def end(self) -> None:
        """No process of it is left."""

        def ended() -> bool:
            for pid in sorted(self.processes()):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            return not self.processes()

        wait_until(ended, "an end of all processes")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stat(pid: int) -> tuple[str, int]:
    """A process's name and parent."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "", 0
    name, _, rest = text.partition("(")[2].rpartition(")")
    return name, int(rest.split()[1])


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
    except OSError:
        return ""
