"""The nginx of a lab host, controlled by shell commands and signals without fleet: for tests of the lab itself."""

import sys
from ipaddress import IPv4Address
from pathlib import Path

from fleet.lab.hosts.lab_host import LabHost
from tests.support.lab.layout import layout_of
from tests.support.private_nginx import wait_until

ESTABLISHED, SYN_SENT = "01", "02"
"""States of a connection as /proc/net/tcp writes them (include/net/tcp_states.h)."""


def connections_to(host: LabHost, state: str) -> int:
    """How many connections of this machine to the host's port 80 are in that state."""
    address = f"{int.from_bytes(IPv4Address(host.address).packed, sys.byteorder):08X}:0050"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2] == address and row[3] == state for row in rows)


class NginxHost:
    """The nginx of one lab host. Pids are the host's own."""

    def __init__(self, host: LabHost) -> None:
        self.host = host
        self.layout = layout_of(host)

    @property
    def target(self) -> str:
        return f"{self.host.address}:80"

    def install(self, release: Path) -> None:
        """The binary's path holds the release, mode and all, in one moment."""
        mode = f"{release.stat().st_mode & 0o777:o}"
        program = self.layout.program
        script = f'cat > "{program}.part"; chmod {mode} "{program}.part"; mv "{program}.part" "{program}"'
        done = self.host.exec(["/bin/sh", "-euc", script], input=release.read_bytes())
        assert done.returncode == 0, done.stderr

    def signal(self, name: str, pid: int) -> None:
        self.host.sh(f"kill -{name} {pid}")

    def pid_in_file(self) -> int | None:
        """What the pid file says; `None` while it is missing or empty, as it is for a moment of every upgrade."""
        text = self.host.exec(["cat", self.layout.pid_file]).stdout.decode().strip()
        return int(text) if text else None

    def master(self) -> int:
        pid = self.pid_in_file()
        assert pid is not None
        return pid

    def launch(self, release: Path) -> int:
        """Put the release in place and send USR2; the old master's pid."""
        old = self.master()
        self.install(release)
        self.signal("USR2", old)
        return old

    def new_master(self, old: int) -> int:
        """The pid of the new master, once it has written it."""
        wait_until(lambda: self.pid_in_file() not in (None, old), "a new master's pid file")
        return self.master()

    def children(self, master: int, title: str = "nginx: worker process") -> list[int]:
        """The master's children of that very title: its workers that are not shutting down."""
        rows = self.host.sh("ps -eo pid=,ppid=,args=").splitlines()
        cells = [row.split(None, 2) for row in rows]
        return [int(pid) for pid, parent, args in cells if int(parent) == master and args.rstrip() == title]

    def wait_for_workers(self, master: int) -> None:
        wait_until(lambda: len(self.children(master)) == 2, f"two workers of {master}")

    def drain(self, master: int) -> None:
        self.signal("WINCH", master)
        wait_until(lambda: not self.children(master), f"no accepting worker of {master}")

    def wait_for_end(self, pid: int) -> None:
        wait_until(lambda: self.host.exec(["test", "-e", f"/proc/{pid}"]).returncode != 0, f"the end of {pid}")

    def running_version(self, pid: int) -> str:
        return self.host.exec([f"/proc/{pid}/exe", "-v"]).stderr.decode().strip()

    def wait_for_log(self, pattern: str) -> None:
        found = ["grep", "-Eq", pattern, self.layout.error_log]
        wait_until(lambda: self.host.exec(found).returncode == 0, f"{pattern!r} in the error log")
