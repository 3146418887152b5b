"""Where a lab keeps its things, what it calls them, and what it has written down about itself.

Everything a lab makes can be found again from its name alone: the folder, and a short prefix for interfaces and
cgroups that comes from the folder's path. So `down` needs no memory, and clears up after an `up` that was killed
before it could write anything. `state.json` adds what the name doesn't say: whose the lab is and who is in it.
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
from enum import Enum
from pathlib import Path

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
    """The process whose end is the lab's end too. `start` guards against a reused pid."""

    pid: int
    start: int


@dataclass(frozen=True, slots=True)
class HostEntry:
    """One host on paper."""

    name: str
    number: int
    address: str
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What a lab has written down. `owner` is `None` for a lab that outlives its maker, as one from the shell does."""

    stage: Stage
    boot_id: str
    owner: Owner | None = None
    subnet: str = ""
    hosts: tuple[HostEntry, ...] = ()
    show: tuple[str, ...] = ()
    inventory_copy: str | None = None


@dataclass(frozen=True, slots=True)
class LabPaths:
    """The folder and the names of one lab."""

    name: str
    root: Path = STATE

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def prefix(self) -> str:
        """What the lab's bridge is called and its links and cgroups begin with: short, as an interface's name must be."""
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
        """The name of the machine's end of a host's cable."""
        return f"{self.prefix}-{number:03}"

    def pid_file(self, host: str) -> Path:
        return self.folder / "run" / host


def lab_paths(name: str, root: Path | None = None) -> LabPaths:
    """The place of the lab `name`. Raises `Refused` for a name or a folder that can't be one."""
    if not NAME.fullmatch(name):
        raise Refused(
            f"lab name {name!r}: not a name for a lab.",
            "Use a small letter, then small letters, digits or '-', 40 at most.",
        )
    folder = (root or Path(os.environ.get("FLEET_LAB_STATE", str(STATE)))).resolve()
    if not MOUNTABLE.fullmatch(str(folder)):
        raise Refused(
            f"state folder {folder}: a mount can't be given this path.",
            "Use a path of letters, digits and . _ + - only.",
        )
    return LabPaths(name, folder)


def boot_id() -> str:
    """What tells this start of the machine from any other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def write_state(paths: LabPaths, state: State) -> None:
    """The lab's folder says `state`, all of it or what it said before."""
    paths.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    plain = {**asdict(state), "stage": state.stage.value}
    temporary = paths.state.with_suffix(".new")
    temporary.write_text(json.dumps(plain, indent=1))
    temporary.rename(paths.state)


def read_state(paths: LabPaths) -> State | None:
    """What the lab wrote down, or `None` when there is nothing that could be read (`up` died very early)."""
    try:
        plain = json.loads(paths.state.read_text())
        owner = plain["owner"]
        return State(
            stage=Stage(plain["stage"]),
            boot_id=plain["boot_id"],
            owner=Owner(**owner) if owner else None,
            subnet=plain["subnet"],
            hosts=tuple(HostEntry(**entry) for entry in plain["hosts"]),
            show=tuple(plain["show"]),
            inventory_copy=plain["inventory_copy"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def locked(paths: LabPaths, what: str) -> Iterator[None]:
    """Only we bring this lab up or down. The kernel gives the lock back when its holder dies, however it dies.

    The lock's file goes with the lab.
    """
    path = paths.root / ".locks" / paths.name
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    with _locked(path, patience_s=PATIENCE_S) as got:
        if not got:
            raise LockHeld(
                f"lab {paths.name}: can't {what} it: another process is bringing it up or down.",
                "Wait for that process, or end it, and say the same again.",
            )
        try:
            yield
        finally:
            if not paths.folder.exists():
                path.unlink()


@contextmanager
def subnets_locked() -> Iterator[None]:
    """No other lab of this machine chooses a subnet meanwhile."""
    with _locked(SUBNETS_LOCK, patience_s=None):
        yield


@contextmanager
def _locked(path: Path, *, patience_s: float | None) -> Iterator[bool]:
    """Whether we have the lock now: after waiting as long as it takes when there is no limit to our patience."""
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
        # Who held it before us may have taken the file away: what we locked is then nobody's, and the next one's other.
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
