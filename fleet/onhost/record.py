"""What is wanted on this host, and who may want it: the record, the fence, the lock and the host's own journal.

Everything lies in `<state_dir>/instances/<hash of the pid file's real path>/`, root's alone. The record says what is
wanted and never where the host is: that is read off the host each time. Each file is written whole or not at all.
"""

import fcntl
import hashlib
import json
import os
from contextlib import contextmanager
from typing import Any, Collection, Dict, Iterator, NamedTuple, Optional, Tuple

from fleet.onhost.machine import Machine
from fleet.onhost.protocol import Layout, Malformed, Record, Request, State, decode, encode

REMEMBERED_UNDONE = 50


class TakenOver(Exception):
    """Somebody else has been given this host since."""


class Busy(Exception):
    """Another step script is at work on this instance."""


class Fence(NamedTuple):
    """The highest epoch this host has seen, whose it is, and the rollouts that were rolled back here.

    A rollback marks its rollout undone also on a host that had not begun, so that the upgrade that is still running
    elsewhere can't start here afterwards, whatever the two laptops' clocks and numbers say.
    """

    epoch: int = 0
    rollout: str = ""
    operator: str = ""
    at: str = ""
    undone: Tuple[str, ...] = ()


class Serving(NamedTuple):
    """What later visits must know of the masters and can't see: where the log stood at `launch`, how the old master was
    started, and which configuration it has in memory.

    `loaded_at_s` is when the old master read its configuration, in seconds since 1970: workers that HUP revives beside a
    new master (`revived`, as pid and start) are younger than that. `verified` are the new workers that verify saw; when
    none of them is left, the configuration was reloaded meanwhile, and after a rollback it is `reload_due`. `master` is
    the old master that was launched from (pid, start), `workers` how many it had then, `logs` the files that it wrote.
    """

    argv: Tuple[str, ...] = ()
    log_path: Optional[str] = None
    log_inode: int = 0
    log_offset: int = 0
    loaded_at_s: Optional[float] = None
    verified: Tuple[Tuple[int, int], ...] = ()
    revived: Tuple[Tuple[int, int], ...] = ()
    reload_due: bool = False
    master: Optional[Tuple[int, int]] = None
    workers: int = 0
    logs: Tuple[str, ...] = ()


class Store:
    """The state folder of the host: releases by hash, and one folder for each instance."""

    def __init__(self, machine: Machine, state_dir: str) -> None:
        self.machine = machine
        self.root = state_dir

    def release(self, sha256: str) -> str:
        """Where the release lies, or would lie."""
        return "%s/releases/%s/nginx" % (self.root, sha256)

    def has(self, sha256: str) -> bool:
        """Whether the release is there with the right bytes."""
        return self.machine.sha256(self.release(sha256)) == sha256

    def keep(self, source: str, sha256: str) -> None:
        """The store has the release that `source` holds. Raises OSError when its bytes are not those."""
        if self.has(sha256):
            return
        final = self.release(sha256)
        self.machine.make_folder(os.path.dirname(final))
        part = "%s.keep.%d" % (final, os.getpid())
        try:
            self.machine.copy(source, part, like=source)
            if self.machine.sha256(part) != sha256:
                raise OSError("%s changed while it was copied into the store" % source)
            self.machine.rename(part, final)
        finally:
            self.machine.unlink(part)

    def instance(self, pid_file: str) -> "InstanceStore":
        """The folder of the instance with this pid file."""
        return InstanceStore(self.machine, self.root, instance_name(self.machine, pid_file))


class InstanceStore:
    """What the host keeps of one nginx instance."""

    def __init__(self, machine: Machine, state_dir: str, name: str) -> None:
        self.machine = machine
        self.name = name
        self.folder = "%s/instances/%s" % (state_dir, name)

    def make(self) -> None:
        self.machine.make_folder(self.folder)

    def _load(self, kind: Any, name: str) -> Any:
        text = self.machine.read("%s/%s" % (self.folder, name))
        if not text:
            return None
        try:
            return decode(kind, text)
        except Malformed as error:
            raise Malformed("%s/%s: %s" % (self.folder, name, error))

    def _save(self, name: str, value: Any) -> None:
        self.make()
        self.machine.write("%s/%s" % (self.folder, name), encode(value) + "\n")

    @property
    def record(self) -> Optional[Record]:
        """What is wanted here; `None`: nothing. Raises `Malformed`."""
        found: Optional[Record] = self._load(Record, "record.json")
        return found

    def write_record(self, record: Record) -> None:
        self._save("record.json", record)

    @property
    def previous(self) -> Optional[Record]:
        """The record before this one, if its rollout was still in force then."""
        found: Optional[Record] = self._load(Record, "previous.json")
        return found

    def begin(self, record: Record) -> None:
        """The record is what is wanted now. A rollout that was in force is remembered, so that it can still be undone
        when the new one has been taken back.
        """
        last = self.record
        if last is not None and last.state is not State.ROLLED_BACK:
            self._save("previous.json", last)
        self.write_record(record)

    @property
    def fence(self) -> Fence:
        found: Optional[Fence] = self._load(Fence, "fence.json")
        return found or Fence()

    @property
    def serving(self) -> Serving:
        found: Optional[Serving] = self._load(Serving, "serving.json")
        return found or Serving()

    def write_serving(self, serving: Serving) -> None:
        self._save("serving.json", serving)

    @property
    def layout(self) -> Optional[Layout]:
        """Where this instance keeps its things, as the last visit found it: `undo` has nobody to ask."""
        found: Optional[Layout] = self._load(Layout, "layout.json")
        return found

    def write_layout(self, layout: Layout) -> None:
        self._save("layout.json", layout)

    def claim(self, request: Request) -> Optional[int]:
        """This request's rollout has the host. The epoch it now has. Raises `TakenOver`, naming who has it, and OSError.

        A rollback of a rollout that is not in force here only marks it undone, and has no epoch: whoever is at work
        here may go on.
        """
        with self._locked("fence.lock", wait_s=10.0):
            fence = self.fence
            if request.take_over:
                undone = tuple(one for one in fence.undone if one != request.rollout) + (request.rollout,)
                marked = fence._replace(undone=undone[-REMEMBERED_UNDONE:])
                if not self._concerns(request.rollout):
                    self._save("fence.json", marked)
                    return None
                epoch = max(fence.epoch + 1, request.epoch)
                mine = Fence(epoch, request.rollout, request.operator, self.machine.utc(), marked.undone)
                self._save("fence.json", mine)
                return epoch
            self._refuse(fence, request.rollout, request.epoch)
            if request.epoch > fence.epoch or request.rollout != fence.rollout:
                mine = Fence(request.epoch, request.rollout, request.operator, self.machine.utc(), fence.undone)
                self._save("fence.json", mine)
            return request.epoch

    def _concerns(self, rollout: str) -> bool:
        """Whether a rollback of this rollout may have something to do here."""
        known = [record.rollout for record in (self.record, self.previous) if record is not None]
        return not known or rollout in known

    def check(self, rollout: str, epoch: int) -> None:
        """Raises `TakenOver` when the host has been given to somebody else since `claim`."""
        fence = self.fence
        if (fence.epoch, fence.rollout) != (epoch, rollout):
            raise TakenOver(_by(fence))

    def _refuse(self, fence: Fence, rollout: str, epoch: int) -> None:
        if rollout in fence.undone:
            raise TakenOver("rollout %s was rolled back here; %s" % (rollout, _by(fence)))
        if epoch < fence.epoch or (epoch == fence.epoch and rollout != fence.rollout):
            raise TakenOver(_by(fence))

    def note(self, **entry: Any) -> None:
        """The entry is the last line of the host's journal, on the disk."""
        self.make()
        line = json.dumps(dict({"at": self.machine.utc()}, **entry), sort_keys=True)
        self.machine.append(self.folder + "/journal.jsonl", line)

    def last_signal(self, pid: int, start: int, among: Collection[str]) -> Optional[Dict[str, Any]]:
        """The last of these signals that fleet sent to this process, as the journal has it."""
        for line in reversed((self.machine.read(self.folder + "/journal.jsonl") or "").splitlines()[-200:]):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry.get("signal") in among and entry.get("pid") == pid and entry.get("start") == start:
                return dict(entry)
        return None

    def lock(self, wait_s: float) -> Any:
        """Nobody else acts on this instance meanwhile. Raises `Busy` after `wait_s`."""
        return self._locked("lock", wait_s)

    @contextmanager
    def _locked(self, name: str, wait_s: float) -> Iterator[None]:
        self.make()
        until = self.machine.monotonic_s() + wait_s
        with open(os.open("%s/%s" % (self.folder, name), os.O_RDWR | os.O_CREAT, 0o600), "r+") as holder:
            while not _taken(holder.fileno()):
                if self.machine.monotonic_s() >= until:
                    raise Busy("step script with pid %s" % (holder.read().strip() or "unknown"))
                self.machine.pause()
            _say_who(holder.fileno())
            yield


def _say_who(descriptor: int) -> None:
    """The lock's file names its holder; on a full disk it does not, and the lock holds all the same."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except OSError:
        return


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _by(fence: Fence) -> str:
    return "taken over by %s (rollout %s, %s)" % (
        fence.operator or "nobody known",
        fence.rollout or "?",
        fence.at or "?",
    )


def instance_name(machine: Machine, pid_file: str) -> str:
    """Sixteen hex digits for the real path of a pid file."""
    return hashlib.sha256(real_pid_file(machine, pid_file).encode()).hexdigest()[:16]


def real_pid_file(machine: Machine, pid_file: str) -> str:
    """The path with its folder's links followed; the file itself may be missing just now."""
    folder, name = os.path.split(pid_file)
    return os.path.join(machine.real_path(folder), name)
