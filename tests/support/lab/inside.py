"""The processes and files of a lab host, read from the machine without running a command there, because that is cheap."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.lab.hosts.lab_host import LabHost
from tests.support.lab.layout import layout_of

STATE_DIR = "/var/lib/fleet"
MASTER, WORKER = "nginx: master process", "nginx: worker process"
DRAINING = "nginx: worker process is shutting down"
SCRIPT, WATCHER = "fleet.pyz", "fleet.pyz watch"


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a host. `pid` and `parent` are the machine's numbers, `inner` is the host's own."""

    pid: int
    parent: int
    inner: int
    name: str
    title: str
    state: str

    @property
    def image_sha256(self) -> str | None:
        try:
            return hashlib.sha256(Path(f"/proc/{self.pid}/exe").read_bytes()).hexdigest()
        except OSError:
            return None

    @property
    def threads(self) -> int:
        """How many it has; 0 when it has ended."""
        try:
            return len(os.listdir(f"/proc/{self.pid}/task"))
        except OSError:
            return 0

    def signal(self, number: int) -> bool:
        """Whether it was still there to get it."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


class Inside:
    """A host that runs, from outside."""

    def __init__(self, host: LabHost) -> None:
        self.host = host
        self._first = host.pid()

    def path(self, path: str) -> Path:
        """Where the machine finds a path of the host."""
        return Path(f"/proc/{self._first}/root{path}")

    def processes(self) -> tuple[Process, ...]:
        """Everything that lives there but its PID 1; no zombies."""
        return tuple(found for found in self._below(self._first) if found.state not in "ZX")

    def _below(self, pid: int) -> Iterator[Process]:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return
        for child in map(int, children):
            found = _process(child, pid)
            if found is not None:
                yield found
                yield from self._below(child)

    def scripts(self) -> tuple[Process, ...]:
        """The step scripts that live there, stopped ones too."""
        return tuple(one for one in self._of_fleet() if WATCHER not in one.title)

    def watchers(self) -> tuple[Process, ...]:
        """The processes that watch a lease."""
        return tuple(one for one in self._of_fleet() if WATCHER in one.title)

    def _of_fleet(self) -> tuple[Process, ...]:
        return tuple(one for one in self.processes() if SCRIPT in one.title and one.name.startswith("python"))

    def masters(self) -> tuple[Process, ...]:
        return tuple(one for one in self.processes() if one.title.startswith(MASTER))

    def workers(self) -> tuple[Process, ...]:
        """The workers that are not shutting down."""
        return tuple(one for one in self.processes() if one.title.startswith(WORKER) and one.title != DRAINING)

    def both_serve(self, new_sha256: str) -> bool:
        """Whether there are two masters, and the one of this release has a worker."""
        masters = self.masters()
        new = [one for one in masters if one.image_sha256 == new_sha256]
        return len(masters) == 2 and len(new) == 1 and any(one.parent == new[0].pid for one in self.workers())

    def sessions(self) -> tuple[Process, ...]:
        """The sshd processes that serve a connection."""
        found = [one for one in self.processes() if one.name.startswith("sshd")]
        return tuple(one for one in found if one.parent != self._first)

    def pid_file(self, suffix: str = "") -> int | None:
        """What a pid file says; `None` when it is missing or empty."""
        text = self.read(layout_of(self.host).pid_file + suffix).strip()
        return int(text) if text.isdigit() else None

    def read(self, path: str) -> str:
        try:
            return self.path(path).read_text(errors="replace")
        except OSError:
            return ""

    def journal(self) -> tuple[dict[str, Any], ...]:
        """The host's own journal of its one instance."""
        files = sorted(self.path(f"{STATE_DIR}/instances").glob("*/journal.jsonl"))
        lines = [line for file in files for line in file.read_text(errors="replace").splitlines()]
        return tuple(json.loads(line) for line in lines if line.startswith("{") and line.endswith("}"))

    def open_intent(self) -> str | None:
        """The step that was begun and has no result; `None` when there is none."""
        found = None
        for entry in self.journal():
            if "intent" in entry:
                found = str(entry["intent"])
            elif "result" in entry:
                found = None
        return found

    def is_idle_after(self, step: str) -> bool:
        """Whether the request that did this step is over: a step script waits in its only thread, and no lock is held."""
        asleep = [one for one in self.scripts() if one.threads == 1]
        results = [entry["result"] for entry in self.journal() if "result" in entry]
        return bool(asleep) and results[-1:] == [step] and self.open_intent() is None and not self._is_locked()

    def _is_locked(self) -> bool:
        for path in self.path(f"{STATE_DIR}/instances").glob("*/lock"):
            with path.open() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
        return False


def _process(pid: int, parent: int) -> Process | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        status = Path(f"/proc/{pid}/status").read_text()
        title = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    inner = next((line.split()[-1] for line in status.splitlines() if line.startswith("NSpid:")), "0")
    return Process(pid, parent, int(inner), name, title.strip(), rest.split()[0])
