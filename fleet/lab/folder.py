"""The folder of a lab: its paths, its names, its state file and its lock.

Everything that a lab makes can be found from its name alone: the folder, and a short prefix for network links and
cgroups, made from the folder's path. So `down` also cleans up after an `up` that was killed before it wrote anything.
`state.json` adds what the name doesn't say: the lab's owner and its hosts.
"""

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

from fleet.errors import LockHeld, Refused

STATE = Path("/var/lib/fleet-lab")
SUBNETS_LOCK = Path("/run/fleet-lab-subnets.lock")
POLL_S = 0.01
PATIENCE_S = 1.0
"""A child of a killed `up` holds its lock, too, from being forked until it executes its program."""
NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
MOUNTABLE = re.compile(r"/[A-Za-z0-9._/+-]+")


class Stage(Enum):
    """How far a lab has come."""

    BUILDING = "building"
    UP = "up"


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that a lab is bound to: when it has ended, the lab may be removed. `start` guards against a reused pid."""

    pid: int
    start: int


class Init(StrEnum):
    """What a host has as its PID 1: the lab's own small init with an /etc/rc, or systemd.

    Systemd has cgroups of version 2, or the hybrid of both versions, with the limits in version 1.
    """

    RC = "rc"
    SYSTEMD = "systemd"
    SYSTEMD_HYBRID = "systemd-hybrid"


@dataclass(frozen=True, slots=True)
class HostEntry:
    """One host in the state file. `layers` are the names of those on its disk's template, the uppermost first."""

    name: str
    number: int
    address: str
    kind: str | None = None
    init: Init = Init.RC
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """The contents of `state.json`. A lab without an `owner` stays up until `fleet lab down`."""

    stage: Stage
    boot_id: str
    owner: Owner | None = None
    subnet: str = ""
    hosts: tuple[HostEntry, ...] = ()
    show: tuple[str, ...] = ()
    inventory_copy: str | None = None


@dataclass(frozen=True, slots=True)
class LabPaths:
    """The paths and names of one lab, made from its name and from the folder that holds all labs."""

    name: str
    root: Path = STATE

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def prefix(self) -> str:
        """The name of the lab's bridge and the prefix of its links and cgroups. Short, because link names must be."""
        return "fl" + hashlib.sha256(str(self.folder).encode()).hexdigest()[:6]

    @property
    def state(self) -> Path:
        return self.folder / "state.json"

    @property
    def disks(self) -> Path:
        return self.folder / "disks"

    @property
    def template(self) -> Path:
        return self.disks / "template"

    def layer(self, name: str) -> Path:
        """A layer over the template, for some of the hosts."""
        return self.disks / name

    @property
    def private_key(self) -> Path:
        return self.folder / "key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def ssh_config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.yaml"

    def link(self, number: int) -> str:
        """The name of the machine's end of a host's network link."""
        return f"{self.prefix}-{number:03}"

    def pid_file(self, host: str) -> Path:
        return self.folder / "run" / host


def lab_paths(name: str, root: Path | None = None) -> LabPaths:
    """The paths of the lab `name`. Raises `Refused` for a name or a folder that a lab can't have."""
    if not NAME.fullmatch(name):
        raise Refused(
            f"A lab can't be named {name!r}.",
            "Use a lower-case letter, then lower-case letters, digits or '-': 40 characters at most.",
        )
    folder = (root or Path(os.environ.get("FLEET_LAB_STATE", str(STATE)))).resolve()
    if not MOUNTABLE.fullmatch(str(folder)):
        raise Refused(
            f"The state folder {folder} can't be used: its path has characters that mount options can't have.",
            "Set FLEET_LAB_STATE to a path of letters, digits and . _ + - only.",
        )
    return LabPaths(name, folder)


def boot_id() -> str:
    """The kernel's boot id: another one after each boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def write_state(paths: LabPaths, state: State) -> None:
    """Write `state.json`, completely or not at all."""
    paths.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    plain = {**asdict(state), "stage": state.stage.value}
    temporary = paths.state.with_suffix(".new")
    temporary.write_text(json.dumps(plain, indent=1))
    temporary.rename(paths.state)


def read_state(paths: LabPaths) -> State | None:
    """The contents of `state.json`; `None` when it can't be read (`up` failed very early)."""
    try:
        plain = json.loads(paths.state.read_text())
        owner = plain["owner"]
        return State(
            stage=Stage(plain["stage"]),
            boot_id=plain["boot_id"],
            owner=Owner(**owner) if owner else None,
            subnet=plain["subnet"],
            hosts=tuple(_entry(entry) for entry in plain["hosts"]),
            show=tuple(plain["show"]),
            inventory_copy=plain["inventory_copy"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _entry(plain: dict[str, Any]) -> HostEntry:
    return HostEntry(**{**plain, "init": Init(plain["init"]), "layers": tuple(plain["layers"])})


@contextmanager
def locked(paths: LabPaths, what: str) -> Iterator[None]:
    """Hold the lab's lock: no other process brings it up or down. The kernel frees the lock when its holder ends.

    The lock file is removed with the lab. Raises `LockHeld`.
    """
    path = paths.root / ".locks" / paths.name
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    with _locked(path, patience_s=PATIENCE_S) as got:
        if not got:
            raise LockHeld(
                f"Can't {what} lab {paths.name}: another process is bringing it up or down.",
                "Wait for that process, or end it, and run the command again.",
            )
        try:
            yield
        finally:
            if not paths.folder.exists():
                path.unlink()


@contextmanager
def subnets_locked() -> Iterator[None]:
    """Hold the lock of all labs on choosing a subnet."""
    with _locked(SUBNETS_LOCK, patience_s=None):
        yield


@contextmanager
def _locked(path: Path, *, patience_s: float | None) -> Iterator[bool]:
    """Wait for a lock, `patience_s` at most; without limit for `None`. Return whether it is held now."""
    deadline = None if patience_s is None else time.monotonic() + patience_s
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            got = _has_locked(descriptor, path)
            if got or (deadline is not None and time.monotonic() > deadline):
                yield got
                return
        finally:
            os.close(descriptor)
        time.sleep(POLL_S)


def _has_locked(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder before us may have removed the file: then the lock of the file that is there now counts.
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
