"""Control groups, of version 1 or 2: what all processes of a command used, also those that it left behind."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import SIGKILL

from fleet.lab.folder import POLL_S
from fleet.lab.processes import started, wait_until

ROOT = Path("/sys/fs/cgroup")
PREFIX = "fleet-bench-"
"""Of the name of a group of a measured command; the pid of its bench follows."""
MEGABYTE = 1e6
ENTER = 'for group in $GROUPS_OF_BENCH; do echo $$ >"$group/cgroup.procs"; done; unset GROUPS_OF_BENCH; exec "$@"'


def is_first_version() -> bool:
    return (ROOT / "cpuacct").is_dir()


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """A group of processes, in each hierarchy that counts something."""

    name: str

    @property
    def folders(self) -> tuple[Path, ...]:
        if is_first_version():
            return ROOT / "cpuacct" / self.name, ROOT / "memory" / self.name
        return (ROOT / self.name,)

    def make(self) -> None:
        for folder in self.folders:
            folder.mkdir(exist_ok=True)

    @classmethod
    def of_command(cls) -> "ControlGroup":
        """The group of the command that this process measures; `end_abandoned` finds it by its name."""
        return cls(f"{PREFIX}{os.getpid()}")

    def end(self) -> None:
        """Kill every process that is in it."""
        while pids := (self.folders[0] / "cgroup.procs").read_text().split():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), SIGKILL)
            time.sleep(POLL_S)

    def remove(self) -> None:
        """Remove the group. Its processes must have ended; the kernel may need a moment for the last one."""
        for folder in self.folders:
            wait_until(partial(_is_removed, folder), within_s=10)

    def cpu_s(self) -> float:
        """CPU seconds of all processes that are or were in it."""
        if is_first_version():
            return int((self.folders[0] / "cpuacct.usage").read_text()) / 1e9
        return int((self.folders[0] / "cpu.stat").read_text().split()[1]) / 1e6

    def memory_mb(self) -> float:
        """Anonymous memory of its processes now, in MB; 0 when the kernel does not count it here."""
        name = "total_rss" if is_first_version() else "anon"
        try:
            lines = (self.folders[-1] / "memory.stat").read_text().splitlines()
        except FileNotFoundError:
            return 0.0
        return next((int(line.split()[1]) / MEGABYTE for line in lines if line.split()[0] == name), 0.0)

    def enter(self, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """A command that runs `argv` in this group, and what it needs in its environment."""
        return ["/bin/sh", "-c", ENTER, "sh", *argv], {"GROUPS_OF_BENCH": " ".join(map(str, self.folders))}

    @contextmanager
    def holds_this_process(self) -> Iterator[None]:
        """What this process starts meanwhile belongs to the group; then the process is back where it was."""
        before = [folder.parent for folder in self.folders]
        own = Path("/proc/self/cgroup").read_text().splitlines()
        for number, top in enumerate(before):
            controller = top.name if is_first_version() else ""
            path = next(line.split(":", 2)[2] for line in own if controller in line.split(":")[1].split(","))
            before[number] = top / path.lstrip("/")
        try:
            _move(self.folders)
            yield
        finally:
            _move(before)


def end_abandoned() -> None:
    """End the commands of benches that were killed, and remove their groups."""
    top = ROOT / "cpuacct" if is_first_version() else ROOT
    for folder in top.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX)
        if pid.isdigit() and started(int(pid)) is None:
            group = ControlGroup(folder.name)
            group.end()
            group.remove()


def _move(folders: Sequence[Path]) -> None:
    for folder in folders:
        (folder / "cgroup.procs").write_text(str(os.getpid()))


def _is_removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
