"""Whether a process of another run is still there: by pid *and* start, because pids are given out again.

"Gone" is said only where it can be known: on the same machine, in the same pid namespace. A process that may be there
holds what it holds until that expires.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PROC = Path("/proc")
MACHINE_ID = Path("/etc/machine-id")


@dataclass(frozen=True, slots=True)
class Process:
    """A process somewhere. The fields from `machine` on are empty where the system doesn't tell them."""

    host: str
    pid: int
    machine: str = ""
    boot: str = ""
    space: str = ""
    start: str = ""

    def to_plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Process":
        """The process that `to_plain` gave; fields that are missing are empty."""
        words = {name: str(plain.get(name, "")) for name in ("host", "machine", "boot", "space", "start")}
        return cls(pid=int(plain.get("pid", 0)), **words)


def this_process() -> Process:
    """The one that asks."""
    return Process(
        host=socket.gethostname(),
        pid=os.getpid(),
        machine=_text(MACHINE_ID),
        boot=_text(PROC / "sys/kernel/random/boot_id"),
        space=_space(),
        start=_start(os.getpid()),
    )


def is_gone(process: Process, me: Process) -> bool | None:
    """Whether the process has ended; `None` where that can't be known from here."""
    if process.host != me.host or process.machine != me.machine:
        return None
    if process.boot != me.boot:
        return True
    if process.space != me.space:
        return None
    if process.start:
        return _start(process.pid) != process.start
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _start(pid: int) -> str:
    """Field 22 of /proc/PID/stat (proc(5)); the name before it may hold blanks and brackets. A zombie has ended."""
    fields = _text(PROC / str(pid) / "stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in ("Z", "X") else ""


def _space() -> str:
    try:
        return os.readlink(PROC / "self/ns/pid")
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
