"""The lab of the bench: its hosts in a control group of their own, and what is asked of all of them."""

import http.client
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fleet.lab.folder import lab_paths
from fleet.lab.hosts import nginx
from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.lab import Lab, clear_abandoned, down
from fleet.lab.processes import this_process
from tests.bench.peers.control_group import ControlGroup, end_abandoned

T = TypeVar("T")
AT_ONCE = 8
ANSWER_S = 5.0
VERSION = re.compile(r"nginx/([0-9.]+)")


@dataclass(frozen=True, slots=True)
class BenchLab:
    """A lab that is up, and the control group of its hosts."""

    lab: Lab
    group: ControlGroup

    @property
    def hosts(self) -> tuple[LabHost, ...]:
        return self.lab.hosts

    def versions(self) -> dict[str, str]:
        """The version that each host names when it is asked over HTTP; nothing for one that does not answer."""
        return dict(zip((host.name for host in self.hosts), self.each(_version), strict=True))

    def each(self, ask: Callable[[LabHost], T]) -> list[T]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(ask, self.hosts))

    def forget_releases(self) -> None:
        """No host keeps a release of fleet's, so that the next one is new to it and the disks don't fill."""
        self.each(lambda host: host.sh("rm -rf /var/lib/fleet/releases/*"))

    def held(self) -> int:
        """How many hosts have two masters: nginx has renamed the old one's pid file, and not renamed it back."""
        return sum((host.disk / f"{nginx.PID_FILE[1:]}.oldbin").exists() for host in self.hosts)

    def wire_bytes(self) -> int:
        """What has gone over the links of all hosts, each way, with all headers."""
        links = [Path("/sys/class/net", self.lab.paths.link(host.entry.number), "statistics") for host in self.hosts]
        return sum(int((link / name).read_text()) for link in links for name in ("rx_bytes", "tx_bytes"))


@contextmanager
def bench_lab(name: str, count: int) -> Iterator[BenchLab]:
    """A lab of `count` hosts, gone afterwards; one that an earlier bench left is removed first."""
    clear_abandoned()
    end_abandoned()
    group = ControlGroup(f"fleet-hosts-of-{name}")
    group.make()
    try:
        with group.holds_this_process():
            lab = Lab.up(name, count, owner=this_process())
        yield BenchLab(lab, group)
    finally:
        down(lab_paths(name))
        group.end()
        group.remove()


def _version(host: LabHost) -> str:
    connection = http.client.HTTPConnection(host.address, timeout=ANSWER_S)
    try:
        connection.request("GET", "/")
        found = VERSION.search(connection.getresponse().read().decode())
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
    return found[1] if found else ""
