"""A machine on which the model nginx runs: the steps of fleet signal it and move its files, and see what comes of it.

Nothing happens there by itself, so what a step does not see at once it never sees, and every wait is over after one pause.
"""

import os
import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from types import SimpleNamespace
from typing import cast

from fleet.onhost.instance import Instance
from fleet.onhost.nginx.master_paths import OLDBIN
from fleet.onhost.nginx.observe import OWN_NAME, Observer
from fleet.onhost.observation import Observation, Worker
from fleet.onhost.protocol import Layout
from fleet.onhost.system.machine import Machine, Ran
from fleet.onhost.system.process import Gone, Process
from fleet.onhost.system.sock_diag import Established
from fleet.onhost.system.sockets import Listener
from fleet.onhost.systemd.service_manager import ServiceManager
from tests.support.onhost.kept import STATE_DIR, EveryRelease, KeptInMemory
from tests.support.onhost.model import LISTENER, ORPHANS, PATH, PID_FILE, Model

LOG = "/error.log"
PAUSE_S = 3600.0
LAYOUT = Layout(binary=PATH, pid_file=PID_FILE, state_dir=STATE_DIR)

TO_OLD: dict[int, Callable[[Model], Model]] = {
    signal.SIGUSR2: Model.usr2_old,
    signal.SIGWINCH: Model.winch_old,
    signal.SIGHUP: Model.hup_old,
    signal.SIGQUIT: Model.quit_old,
    signal.SIGTERM: Model.quit_old,
    signal.SIGKILL: Model.kill_old,
}
TO_NEW: dict[int, Callable[[Model], Model]] = {
    signal.SIGWINCH: Model.winch_new,
    signal.SIGHUP: Model.hup_new,
    signal.SIGQUIT: Model.quit_new,
    signal.SIGTERM: Model.quit_new,
    signal.SIGKILL: Model.kill_new,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """The faults of nginx for now: this release complains in its log; old connections don't end."""

    complains: str | None = None
    drains_on: bool = False


class ModelMachine(Machine):
    """A host with one nginx, `model`. `files` are fleet's own files beside the binary, by their hash."""

    def __init__(self, name: str, model: Model, clock: Callable[[], datetime], versions: dict[str, str]) -> None:
        self.name = name
        self.model = model
        self.clock = clock
        self.versions = versions
        self.files: dict[str, str] = {}
        self.fault = Fault()
        self.boots = 1
        self.waited_s = 0.0

    # Time

    def monotonic_s(self) -> float:
        return self.waited_s

    def pause(self, seconds: float = PAUSE_S) -> None:
        self.waited_s += PAUSE_S

    def boottime_s(self) -> float:
        return self.clock().timestamp()

    def boot_id(self) -> str:
        return f"boot-{self.boots}"

    def utc(self) -> str:
        return self.clock().isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def began_s(self, start: int) -> float:
        return 0.0

    def age_of_process_s(self, start: int) -> float:
        return self.boottime_s()

    # Processes

    def observe(self) -> Observation:
        """The model as a look sees it: one old worker drains for as long as old connections don't end."""
        seen = self.model.observe()
        if not (self.fault.drains_on and len(seen.masters) == 2 and not seen.masters[0].workers):
            return seen
        draining = Worker(seen.masters[0].pid * 100 + 99, 1, True, True)
        return seen._replace(masters=(seen.masters[0]._replace(workers=(draining,)), seen.masters[1]))

    def processes(self) -> list[Process]:
        seen = self.observe()
        found = []
        for master in seen.masters:
            found.append(Process(master.pid, master.ppid, master.start, "S", 0, "nginx: master process " + PATH))
            found += [
                Process(one.pid, master.pid, one.start, "S", 0, "nginx: worker process") for one in master.workers
            ]
        return found + [Process(pid, 1, 1, "S", 0, "nginx: worker process") for pid in seen.orphans]

    def process(self, pid: int) -> Process | None:
        return next((one for one in self.processes() if one.pid == pid), None)

    def same_pid_namespace(self, pid: int) -> bool:
        return True

    def leads_session(self, pid: int) -> bool:
        return False

    def image_is_deleted(self, pid: int) -> bool:
        return False

    def socket_inodes(self, pid: int) -> frozenset[int]:
        return frozenset({LISTENER})

    def among(self, inodes: Collection[int], pid: int) -> list[Established]:
        return []

    def listeners(self, pid: int) -> dict[int, Listener]:
        return {}

    def signal(self, pid: int, start: int, signum: int) -> None:
        if self.process(pid) is None:
            raise Gone(f"process {pid} is gone")
        acts = {self.model.ids[0]: TO_OLD, self.model.ids[1]: TO_NEW}.get(pid, {})
        if pid in ORPHANS:
            self.model = replace(self.model, orphans=0)
        elif signum in acts:
            self.model = acts[signum](self.model)

    # Files

    def exists(self, path: str) -> bool:
        return path == PATH or path in self.files

    def real_path(self, path: str) -> str:
        return LOG if _is_log(path) else path

    def stat(self, path: str) -> os.stat_result | None:
        if path == PATH or path.endswith("/root" + PATH):
            return cast(os.stat_result, SimpleNamespace(st_mode=0o100755, st_dev=1, st_ino=1, st_size=1 << 20))
        if _is_log(path):
            size = len(self._log())
            seen = SimpleNamespace(st_mode=0o100644, st_dev=1, st_ino=2, st_size=size, st_mtime=0.0)
            return cast(os.stat_result, seen)
        return None

    def read(self, path: str) -> str | None:
        return self.name if path == "/etc/machine-id" else None

    def read_from(self, path: str, offset: int, most_bytes: int) -> bytes:
        return self._log()[offset : offset + most_bytes]

    def sha256(self, path: str) -> str | None:
        return self.model.path if path == PATH else self.files.get(path)

    def names(self, folder: str) -> list[str]:
        return ["2", "4"] if folder.endswith("/fd") else []

    def copy(self, source: str, target: str, like: str) -> None:
        self.files[target] = os.path.basename(os.path.dirname(source))  # out of the store: releases/SHA256/nginx

    def rename(self, source: str, target: str) -> None:
        assert target == PATH
        self.model = self.model.put(self.files.pop(source))

    def exchange(self, one: str, other: str) -> bool:
        assert other == PATH
        mine, self.files[one] = self.files[one], str(self.model.path)
        self.model = self.model.put(mine)
        return True

    def unlink(self, path: str) -> None:
        self.files.pop(path, None)
        if path == PID_FILE + OLDBIN:
            self.model = replace(self.model, oldbin=self.model.new is not None)

    def write(self, path: str, text: str, mode: int = 0o600, lasting: bool = True) -> None:
        pass

    def syslog(self, text: str) -> None:
        pass

    # Programs

    def user(self) -> int:
        return 0

    def run(self, argv: tuple[str, ...], timeout_s: float, env: dict[str, str] | None = None, cwd: str = "/") -> Ran:
        """`-v` says the version; the binary ends well whatever else it is asked."""
        if argv[-1] != "-v":
            return Ran(0, "", 0.1)
        images = {f"/proc/{master.pid}/exe": master.sha256 for master in self.model.observe().masters}
        version = self.versions.get(images.get(argv[0], self.model.path) or "")
        return Ran(0, f"nginx version: nginx/{version}\n", 0.1) if version else Ran(1, "", 0.1)

    def _log(self) -> bytes:
        masters = self.model.observe().masters
        if not masters or masters[-1].sha256 != self.fault.complains:
            return b""
        return b"2026/11/23 10:00:00 [emerg] %d#0: something is wrong with this release\n" % masters[-1].pid


def _is_log(path: str) -> bool:
    return path == LOG or path.endswith(("/fd/2", "/fd/4"))


class ModelObserver(Observer):
    """Sees the model as `Observer` would see nginx."""

    machine: ModelMachine

    def look(self) -> Observation:
        machine = self.machine
        seen = machine.observe()
        own = tuple(path for path in machine.files if OWN_NAME in path)
        return seen._replace(litter=own + seen.litter) if own else seen


def instance_on(machine: ModelMachine) -> Instance:
    """The nginx of this machine, with an empty folder in the store."""
    store = EveryRelease(machine, STATE_DIR)
    return Instance(machine, ModelObserver(machine, LAYOUT), store, KeptInMemory(machine), ServiceManager(machine))
