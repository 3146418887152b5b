"""What preflight looks at: one host, one instance, its one master, and what was asked."""

from typing import NamedTuple, Optional

from fleet.onhost.nginx.command_line import Command, read_command
from fleet.onhost.protocol import Master, Observation, Record, Request
from fleet.onhost.state.store import Serving
from fleet.onhost.system.machine import Machine


class Subject(NamedTuple):
    """`old` is the running master, `staged` the path of the new binary in the store, if it is there; `serving` is what
    fleet remembers of that master.
    """

    machine: Machine
    request: Request
    seen: Observation
    old: Master
    staged: Optional[str]
    record: Optional[Record]
    serving: Serving = Serving()

    @property
    def command(self) -> Command:
        return read_command(self.old.argv)

    @property
    def image(self) -> str:
        """A path by which the running image can be read and executed, also when its file has been replaced."""
        return "/proc/%d/exe" % self.old.pid

    @property
    def release_bytes(self) -> int:
        """How big the new binary is; as big as the old one when nobody knows."""
        if self.request.release_bytes is not None:
            return self.request.release_bytes
        seen = self.machine.stat(self.staged or self.image)
        return seen.st_size if seen else 0


def sized(count: int) -> str:
    """A number of bytes for people."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(count) >= size:
            return "%.1f %s" % (count / size, unit)
    return "%d bytes" % count
