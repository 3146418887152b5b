"""Whether the process of another run still exists: by pid *and* start time, because the kernel reuses pids.

That can be known only on the same machine and in the same pid namespace. Elsewhere a lock is kept until it expires.
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
    """A process on some machine. `machine`, `boot`, `space` (the pid namespace) and `start` are empty where not known."""

    host: str
    pid: int
    machine: str = ""
    boot: str = ""
    space: str = ""
    start: str = ""

    def to_plain(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Process":
        """The process that `to_plain` wrote; missing fields are empty."""
        words = {name: str(plain.get(name, "")) for name in ("host", "machine", "boot", "space", "start")}
        return cls(pid=int(plain.get("pid", 0)), **words)


def this_process() -> Process:
    """The calling process."""
    return Process(
        host=socket.gethostname(),
        pid=os.getpid(),
        machine=_text(MACHINE_ID),
        boot=_text(PROC / "sys/kernel/random/boot_id"),
        space=_space(),
        start=_start(os.getpid()),
    )


def is_gone(process: Process, me: Process) -> bool | None:
    """Whether the process has ended; `None` where that can't be known from `me`."""
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
    """The start time, field 22 of /proc/PID/stat (proc(5)); empty for a zombie and for a pid that is not in use.

    The process name before it may hold spaces and parentheses, so the fields are counted from the last one on.
    """
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
