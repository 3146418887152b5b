"""What preflight judges: an instance, its one master, and the request."""

from typing import NamedTuple, Optional

from fleet.onhost.instance import Instance
from fleet.onhost.nginx.command_line import CommandLine, read_command_line
from fleet.onhost.observation import Master, Observation
from fleet.onhost.protocol import Record, Request
from fleet.onhost.state.store import Serving
from fleet.onhost.system.machine import Machine


class Subject(NamedTuple):
    """`old` is the running master, `staged` the path of the new binary in the store, if it is there."""

    instance: Instance
    request: Request
    seen: Observation
    old: Master
    staged: Optional[str]

    @property
    def machine(self) -> Machine:
        return self.instance.machine

    @property
    def record(self) -> Optional[Record]:
        return self.instance.record

    @property
    def serving(self) -> Serving:
        return self.instance.serving

    @property
    def command(self) -> CommandLine:
        return read_command_line(self.old.argv)

    @property
    def image(self) -> str:
        """A path by which the running image can be read and executed, even after its file was replaced."""
        return "/proc/%d/exe" % self.old.pid

    @property
    def release_bytes(self) -> int:
        """The size of the new binary; the size of the old one where the new one's is unknown."""
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
