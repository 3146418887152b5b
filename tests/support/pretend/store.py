"""What a pretend host keeps, in memory: the same records, fence, claim and lease, by the host's own code and our clock."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any

from fleet.onhost.state.store import InstanceStore
from fleet.onhost.system.machine import Machine, Ran


class PretendMachine(Machine):
    """A machine of which fleet may ask who it is, what time it is, and which version a release gives of itself."""

    def __init__(self, name: str, clock: Callable[[], datetime], version: Callable[[str], str | None]) -> None:
        self.name = name
        self.clock = clock
        self.version = version
        self.boots = 1

    def boottime_s(self) -> float:
        return self.clock().timestamp()

    def boot_id(self) -> str:
        return f"boot-{self.boots}"

    def utc(self) -> str:
        return self.clock().isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def read(self, path: str) -> str | None:
        return self.name if path == "/etc/machine-id" else None

    def same_pid_namespace(self, pid: int) -> bool:
        return True

    def run(self, argv: tuple[str, ...], timeout_s: float, env: dict[str, str] | None = None, cwd: str = "/") -> Ran:
        version = self.version(argv[0])
        return Ran(0, f"nginx version: nginx/{version}\n", 0.0) if version else Ran(1, "", 0.0)


class PretendStore(InstanceStore):
    """The folder of one instance: the values that lie in it, by file name. Nobody else is ever at work there."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine, "/var/lib/fleet", "0" * 16)
        self.kept: dict[str, Any] = {}

    def make(self) -> None:
        pass

    def load(self, kind: Any, name: str) -> Any:
        return self.kept.get(name)

    def save(self, name: str, value: Any) -> None:
        self.kept[name] = value

    def remove(self, name: str) -> None:
        self.kept.pop(name, None)

    def note(self, **entry: Any) -> None:
        pass

    def lock(self, wait_s: float, name: str = "lock") -> AbstractContextManager[None]:
        return nullcontext()
