"""What the host keeps: releases, and for each instance its record, what later visits must know, and a journal.

An instance's files are in `<state_dir>/instances/<hash of the pid file's real path>/`, for root only. The record says
what is wanted, never the phase: that is read from the processes each time. Each file is written whole or not at all.
"""

import hashlib
import json
import os
from typing import Any, Collection, ContextManager, Dict, List, NamedTuple, Optional, Tuple

from fleet.onhost.bootstrap.safe_folders import GIVEN_UP_S
from fleet.onhost.protocol import Layout, Record, State
from fleet.onhost.state.known_lines import Baseline, Rehearsed
from fleet.onhost.system.file_lock import is_held, locked
from fleet.onhost.system.files import TEMPORARY
from fleet.onhost.system.machine import Machine
from fleet.onhost.wire import Malformed, decode, encode

KEEPING = ".keep."
JOURNAL, OLDER = "journal.jsonl", ".1"
MOST_JOURNAL_BYTES = 4 << 20
LINES_LOOKED_AT = 200


class Serving(NamedTuple):
    """What later visits must know of the masters and can't see: the end of the log at `launch`, how the old master was
    started, and which configuration it has in memory.

    `loaded_at_s` is when the old master read its configuration, in seconds since 1970. Workers that HUP revives beside a
    new master (`revived`, as pid and start) are younger than that. `verified` are the new workers that `verify` saw: when
    none of them is left, the configuration was reloaded since, and after a rollback a reload is due (`reload_due`).
    `verified_master` is the new master that `verify` saw, as pid and start; any other one is unconfirmed, for example after
    a reboot. `master` is the old master that got USR2 (pid, start), `workers` how many workers it had then, `wanted` how
    many the new one starts (0: not known), `logs` the files that it wrote. `baseline` is what its log held before that.
    `said` are the kinds of known or allowed lines of which the operator has been told. `unit` is the systemd unit that
    started the old master; `None` where a person started it by hand.
    """

    argv: Tuple[str, ...] = ()
    log_path: Optional[str] = None
    log_inode: int = 0
    log_offset: int = 0
    loaded_at_s: Optional[float] = None
    verified: Tuple[Tuple[int, int], ...] = ()
    verified_master: Optional[Tuple[int, int]] = None
    revived: Tuple[Tuple[int, int], ...] = ()
    reload_due: bool = False
    master: Optional[Tuple[int, int]] = None
    workers: int = 0
    wanted: int = 0
    logs: Tuple[str, ...] = ()
    baseline: Baseline = Baseline()
    said: Tuple[str, ...] = ()
    unit: Optional[str] = None


class Store:
    """The state folder of the host: releases by hash, and one folder for each instance."""

    def __init__(self, machine: Machine, state_dir: str) -> None:
        self.machine = machine
        self.root = state_dir

    def release(self, sha256: str) -> str:
        """The path of the release in the store, whether it is there or not."""
        return "%s/releases/%s/nginx" % (self.root, sha256)

    def has(self, sha256: str) -> bool:
        """Whether the store has the release, with the right bytes."""
        return self.machine.sha256(self.release(sha256)) == sha256

    def keep(self, source: str, sha256: str) -> None:
        """Copy the release from `source` into the store. Raises OSError when the bytes do not match."""
        if self.has(sha256):
            return
        final = self.release(sha256)
        self.machine.make_folder(os.path.dirname(final))
        part = "%s%s%d" % (final, KEEPING, os.getpid())
        try:
            self.machine.copy(source, part, like=source)
            if self.machine.sha256(part) != sha256:
                raise OSError("%s changed while it was copied into the store" % source)
            self.machine.rename(part, final)
        finally:
            self.machine.unlink(part)

    def instance(self, pid_file: str) -> "InstanceStore":
        """The store of the instance with this pid file."""
        return InstanceStore(self.machine, self.root, instance_name(self.machine, pid_file))


class InstanceStore:
    """The files that the host keeps for one instance."""

    def __init__(self, machine: Machine, state_dir: str, name: str) -> None:
        self.machine = machine
        self.root = state_dir
        self.name = name
        self.folder = "%s/instances/%s" % (state_dir, name)

    def make(self) -> None:
        self.machine.make_folder(self.folder)

    def load(self, kind: Any, name: str) -> Any:
        """The value of this type in one of the instance's files, or `None` when there is none. Raises `Malformed`."""
        path = "%s/%s" % (self.folder, name)
        text = self.machine.read(path)
        if text is None and not self.machine.exists(path):
            return None
        if not text:
            raise Malformed("%s can't be read, or is empty" % path)
        try:
            return decode(kind, text)
        except Malformed as error:
            raise Malformed("%s/%s: %s" % (self.folder, name, error))

    def load_of_boot(self, kind: Any, name: str) -> Any:
        """As `load`, of a value with a `boot_id`; `None` also where it can't be read, or the host was booted since."""
        try:
            found = self.load(kind, name)
        except Malformed:
            return None
        return found if found is not None and found.boot_id == self.machine.boot_id() else None

    def save(self, name: str, value: Any, lasting: bool = True) -> None:
        """Write the value to the file, whole or not at all. What is void after a boot need not be `lasting`."""
        self.make()
        self.machine.write("%s/%s" % (self.folder, name), encode(value) + "\n", lasting=lasting)

    def remove(self, name: str) -> None:
        """Remove the file."""
        self.machine.unlink("%s/%s" % (self.folder, name))

    def drop(self, name: str) -> None:
        """Remove the file of what is void after a boot: a power cut may bring it back."""
        self.machine.drop("%s/%s" % (self.folder, name))

    @property
    def record(self) -> Optional[Record]:
        """The record of this instance; `None` if no rollout ever began. Raises `Malformed`."""
        found: Optional[Record] = self.load(Record, "record.json")
        return found

    def write_record(self, record: Record) -> None:
        self.save("record.json", record)

    @property
    def previous(self) -> Optional[Record]:
        """The record before this one, if its rollout was still in force then."""
        found: Optional[Record] = self.load(Record, "previous.json")
        return found

    def begin(self, record: Record) -> None:
        """Write the record of a new rollout. Keep the one in force, so that it can still be undone once the new one has been
        rolled back.
        """
        last = self.record
        if last is not None and last.state is not State.ROLLED_BACK:
            self.save("previous.json", last)
        self.write_record(record)

    @property
    def serving(self) -> Serving:
        """What earlier visits noted; empty where it can't be read, because a rollback must not depend on it."""
        try:
            found: Optional[Serving] = self.load(Serving, "serving.json")
        except Malformed:
            return Serving()
        return found or Serving()

    def write_serving(self, serving: Serving) -> None:
        self.save("serving.json", serving)

    @property
    def rehearsed(self) -> Optional[Rehearsed]:
        """What the running release's binary wrote in the last rehearsal; `None` where there was none, or it can't be read."""
        try:
            found: Optional[Rehearsed] = self.load(Rehearsed, "rehearsed.json")
        except Malformed:
            return None
        return found

    def write_rehearsed(self, rehearsed: Rehearsed) -> None:
        self.save("rehearsed.json", rehearsed, lasting=False)  # of a master that lives

    @property
    def layout(self) -> Optional[Layout]:
        """The layout as the last upgrade found it, for `undo` and for the lease."""
        found: Optional[Layout] = self.load(Layout, "layout.json")
        return found

    def write_layout(self, layout: Layout) -> None:
        self.save("layout.json", layout)

    def note(self, **entry: Any) -> None:
        """Append the entry to the host's journal. Raises OSError.

        An intent is on the disk, with all before it, before its step begins. What follows is there with the next intent, or at
        the end of the visit (`flush`): a power cut that takes it also ends every process that it tells of.
        """
        self.make()
        line = json.dumps(dict({"at": self.machine.utc()}, **entry), sort_keys=True)
        self.machine.append(self.folder + "/" + JOURNAL, line, lasting="intent" in entry)

    def flush(self) -> None:
        """Have the whole journal on the disk. Raises OSError."""
        self.machine.flush(self.folder + "/" + JOURNAL)

    def tidy(self) -> None:
        """Rotate a full journal and remove what killed writes left. The caller holds the lock.

        Raises OSError.
        """
        path = self.folder + "/" + JOURNAL
        seen = self.machine.stat(path)
        if seen is not None and seen.st_size > MOST_JOURNAL_BYTES:
            self.machine.rename(path, path + OLDER)
        for name in self.machine.names(self.folder):
            if TEMPORARY in name and self.machine.age_s("%s/%s" % (self.folder, name)) > GIVEN_UP_S:
                self.machine.unlink("%s/%s" % (self.folder, name))

    def signals(self, pid: int, start: int, among: Collection[str]) -> List[Dict[str, Any]]:
        """The journal's entries of these signals that fleet sent to this process, the latest first."""
        found = []
        for line in reversed(self._last_lines()):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if not isinstance(entry, dict) or entry.get("signal") not in among:
                continue
            if (entry.get("pid"), entry.get("start")) == (pid, start):
                found.append(entry)
        return found

    def last_signal(self, pid: int, start: int, among: Collection[str]) -> Optional[Dict[str, Any]]:
        """The journal's entry of the last of these signals that fleet sent to this process."""
        return next(iter(self.signals(pid, start, among)), None)

    def _last_lines(self) -> List[str]:
        path = self.folder + "/" + JOURNAL
        found = (self.machine.read(path) or "").splitlines()
        if len(found) < LINES_LOOKED_AT:
            found = (self.machine.read(path + OLDER) or "").splitlines() + found
        return found[-LINES_LOOKED_AT:]

    def lock(self, wait_s: float, name: str = "lock") -> ContextManager[None]:
        """A context manager that holds this lock of the instance. Raises `Busy` after `wait_s`, and OSError."""
        self.make()
        return locked(self.machine, "%s/%s" % (self.folder, name), wait_s)

    def is_locked(self, name: str) -> bool:
        """Whether a process that was not stopped holds this lock of the instance. Raises OSError."""
        return is_held(self.machine, "%s/%s" % (self.folder, name))

    def touched_at(self, name: str) -> str:
        """When this file was last written or touched, UTC in ISO 8601; empty where it does not exist."""
        seen = self.machine.stat("%s/%s" % (self.folder, name))
        return self.machine.utc_at(seen.st_mtime) if seen is not None else ""

    def touch(self, name: str) -> None:
        """Raises OSError."""
        os.utime("%s/%s" % (self.folder, name))


def instance_name(machine: Machine, pid_file: str) -> str:
    """The name of an instance's folder: sixteen hex digits of the hash of its pid file's real path."""
    return hashlib.sha256(real_pid_file(machine, pid_file).encode()).hexdigest()[:16]


def real_pid_file(machine: Machine, pid_file: str) -> str:
    """The path with the links in its folder followed. The file itself may be missing."""
    folder, name = os.path.split(pid_file)
    return os.path.join(machine.real_path(folder), name)
