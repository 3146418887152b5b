"""A host as recorded facts: what preflight reads and runs comes from tables instead of a kernel."""

import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from fleet.onhost.instance import Instance
from fleet.onhost.observation import Master, Observation, Worker
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Ask, Goal, Layout, Options, Record, Request, Rest, Step
from fleet.onhost.system.machine import Machine, Ran
from fleet.onhost.system.process import Process
from fleet.onhost.system.sockets import Listener
from tests.support.onhost.kept import KeptInMemory

OLD, NEW = "a" * 64, "b" * 64
PATH = "/usr/sbin/nginx"
PID_FILE = "/run/nginx.pid"
EPOCH_S = 1_700_000_000.0
TICKS = 100


class RecordedMachine(Machine):
    """Whatever is not in a table isn't there. Ticks count from `EPOCH_S`, a hundred to the second."""

    def __init__(
        self,
        texts: Mapping[str, str] | None = None,
        stats: Mapping[str, dict[str, Any]] | None = None,
        rooms: Mapping[str, dict[str, int]] | None = None,
        runs: Mapping[tuple[str, ...], Ran] | None = None,
        processes: tuple[Process, ...] = (),
        listeners: tuple[Listener, ...] = (),
        names: Mapping[str, tuple[str, ...]] | None = None,
        links: Mapping[str, str] | None = None,
        busy: Mapping[tuple[str, str, int], str] | None = None,
        locks: Mapping[str, int] | None = None,
        attributes: Mapping[str, int] | None = None,
        uid: int = 0,
    ) -> None:
        self.texts = dict(texts or {})
        self.stats = dict(stats or {})
        self.rooms = dict(rooms or {})
        self.runs = dict(runs or {})
        self.all_processes = processes
        self.all_listeners = listeners
        self.folders = dict(names or {})
        self.links = dict(links or {})
        self.busy = dict(busy or {})
        self.locks = dict(locks or {})
        self.flags = dict(attributes or {})
        self.uid = uid
        self.ran: list[tuple[str, ...]] = []

    def user(self) -> int:
        return self.uid

    def began_s(self, start: int) -> float:
        return EPOCH_S + start / TICKS

    def processes(self) -> list[Process]:
        return list(self.all_processes)

    def process(self, pid: int) -> Process | None:
        return next((one for one in self.all_processes if one.pid == pid), None)

    def same_pid_namespace(self, pid: int) -> bool:
        return True

    def image(self, pid: int) -> tuple[int, int] | None:
        seen = self.stats.get(f"/proc/{pid}/exe")
        return None if seen is None else (int(seen["st_dev"]), int(seen["st_ino"]))

    def listeners(self, pid: int) -> dict[int, Listener]:
        return {one.inode: one for one in self.all_listeners}

    def exists(self, path: str) -> bool:
        return path in self.stats or path in self.texts

    def real_path(self, path: str) -> str:
        return self.links.get(path, path)

    def stat(self, path: str) -> os.stat_result | None:
        found = self.stats.get(path)
        if found is None and path in self.texts and not path.startswith("/proc/"):
            found = {"st_size": len(self.texts[path])}
        if found is None:
            return None
        plain = {
            "st_mode": 0o100644,
            "st_dev": 1,
            "st_ino": 1,
            "st_size": 0,
            "st_uid": 0,
            "st_mtime": 0.0,
            "st_ctime": 0.0,
        }
        return cast(os.stat_result, SimpleNamespace(**{**plain, **found}))

    def room(self, path: str) -> os.statvfs_result | None:
        found = self.rooms.get(path)
        if found is None:
            return None
        plain = {"f_flag": 0, "f_bavail": 1 << 20, "f_frsize": 4096, "f_files": 1000, "f_favail": 1000}
        return cast(os.statvfs_result, SimpleNamespace(**{**plain, **found}))

    def may_write(self, folder: str) -> bool:
        return True

    def attributes(self, path: str) -> int:
        return self.flags.get(path, 0)

    def locked_by(self, path: str) -> int | None:
        return self.locks.get(path)

    def link_target(self, path: str) -> str | None:
        return self.links.get(path)

    def read(self, path: str) -> str | None:
        return self.texts.get(path)

    def read_from(self, path: str, offset: int, most_bytes: int) -> bytes:
        if path not in self.texts:
            raise FileNotFoundError(path)
        return self.texts[path].encode("latin-1")[offset : offset + most_bytes]

    def names(self, folder: str) -> list[str]:
        return sorted(self.folders.get(folder, ()))

    def run(self, argv: tuple[str, ...], timeout_s: float, env: dict[str, str] | None = None, cwd: str = "/") -> Ran:
        self.ran.append(argv)
        return self.runs.get(argv, Ran(127, "not recorded: " + " ".join(argv), 0.0))

    def bind_error(self, kind: str, host: str, port: int, pid: int) -> str | None:
        return self.busy.get((kind, host, port))


def a_worker(pid: int = 813, start: int = 1000, draining: bool = False) -> Worker:
    return Worker(pid, start, draining, True)


def a_master(
    pid: int = 812,
    ppid: int = 1,
    argv: tuple[str, ...] = (PATH,),
    workers: tuple[Worker, ...] = (a_worker(),),
    listeners: tuple[int, ...] = (),
    sha256: str = OLD,
    stopped: bool = False,
) -> Master:
    return Master(pid, 900, ppid, sha256, argv, workers, listeners, stopped)


def a_look(*masters: Master, path: str | None = PATH, others: tuple[int, ...] = (), **more: object) -> Observation:
    plain: dict[str, object] = {
        "masters": masters,
        "path": path,
        "path_sha256": OLD,
        "pid_file": PID_FILE,
        "pid_file_pid": 812,
        "oldbin_pid": None,
        "others": others,
    }
    return Observation(**{**plain, **more})  # type: ignore[arg-type]  # the fields are many, each of its own type


def a_request(allow: tuple[str, ...] = (), release_bytes: int | None = 1 << 20) -> Request:
    return Request(
        1,
        Ask.STAGE,
        "r1",
        1,
        "ada",
        Goal(NEW, Rest.HELD),
        (Step.STAGE,),
        Layout(),
        Options(allow=allow),
        release_bytes=release_bytes,
    )


def a_subject(
    machine: Machine,
    old: Master | None = None,
    look: Observation | None = None,
    request: Request | None = None,
    record: Record | None = None,
    staged: str | None = None,
) -> Subject:
    master = old or a_master()
    return Subject(an_instance(machine, record), request or a_request(), look or a_look(master), master, staged)


def an_instance(machine: Machine, record: Record | None = None, layout: Layout = Layout()) -> Instance:
    """An instance on this machine, of which the host keeps no more than the record."""
    return Instance.at(machine, layout)._replace(kept=KeptInMemory(machine, record=record))


def a_record(rollout: str = "r0", poisoned: tuple[int, int] | None = None) -> Record:
    return Record(rollout, 1, "ada", NEW, OLD, OLD, "2026-11-23T10:00:00.000Z", poisoned=poisoned)
