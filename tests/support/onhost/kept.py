"""What a host keeps of an instance, in memory: the store's own code, with values in a dictionary instead of files."""

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fleet.onhost.state.store import InstanceStore, Store
from fleet.onhost.system.machine import Machine

STATE_DIR = "/var/lib/fleet"


class KeptInMemory(InstanceStore):
    """The folder of one instance. Its lock is always free, and its lease counts as watched: the test is the watcher."""

    def __init__(self, machine: Machine, **values: Any) -> None:
        super().__init__(machine, STATE_DIR, "0" * 16)
        self.values: dict[str, Any] = {f"{name}.json": value for name, value in values.items()}
        self.entries: list[dict[str, Any]] = []

    def make(self) -> None:
        pass

    def load(self, kind: Any, name: str) -> Any:
        return self.values.get(name)

    def save(self, name: str, value: Any, lasting: bool = True) -> None:
        self.values[name] = value

    def remove(self, name: str) -> None:
        self.values.pop(name, None)

    drop = remove

    def note(self, **entry: Any) -> None:
        self.entries.append(entry)

    def flush(self) -> None:
        pass

    def signals(self, pid: int, start: int, among: Collection[str]) -> list[dict[str, Any]]:
        sent = (one for one in reversed(self.entries) if one.get("signal") in among)
        return [one for one in sent if (one["pid"], one["start"]) == (pid, start)]

    def tidy(self) -> None:
        pass

    def lock(self, wait_s: float, name: str = "lock") -> AbstractContextManager[None]:
        return nullcontext()

    def is_locked(self, name: str) -> bool:
        return True

    def touched_at(self, name: str) -> str:
        return self.machine.utc()


class EveryRelease(Store):
    """A store that has every release."""

    def has(self, sha256: str) -> bool:
        return True

    def keep(self, source: str, sha256: str) -> None:
        pass
