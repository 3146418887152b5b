"""The journal around a command that changes hosts: opened before anything is asked, locked before anything is changed.

A rollback is never kept waiting: with no journal that works it goes on without one, and with a lock that another rollout
holds it goes on without the lock. Either is said in one line.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.environment import CommandOptions
from fleet.errors import JournalError
from fleet.events import Event
from fleet.journal.journal import Journal, new_token
from fleet.journal.lock import Holder, JournalLock
from fleet.journal.process_identity import this_process
from fleet.onhost.protocol import Sender
from fleet.rollout.tasks import TaskBuilder
from fleet.ui.output import Output


class Recorder:
    """What the engine writes: one run's events, and the beat of the lock where the run has it."""

    def __init__(self, journal: Journal, run: str, lock: JournalLock) -> None:
        self._journal = journal
        self._run = run
        self._lock = lock

    @property
    def sender(self) -> Sender:
        """Who asks, as the hosts will name it to others."""
        return sender(self._journal.id)

    def append(self, event: Event) -> None:
        """The event is on the disk. Raises `JournalError`."""
        self._journal.append(self._run, event)

    def beat(self) -> None:
        """The lock, if we have it, doesn't expire. Raises `LockHeld` when somebody has taken it, and `JournalError`."""
        self._lock.beat()

    def set_rollout(self, rollout: str) -> None:
        """The lock says which rollout it is held for. Raises `LockHeld` when it is not ours any more."""
        self._lock.set_rollout(rollout)


def sender(journal: str = "") -> Sender:
    """This process, and the journal that its run is written into."""
    me = this_process()
    return Sender(journal, me.host, me.pid)


@contextmanager
def journal_lock(
    journal: Journal, output: Output, options: CommandOptions, operator: str, command: str, rollout: str = ""
) -> Iterator[Recorder]:
    """While it is entered, the journal's lock is ours. Raises `LockHeld`, after having waited as long as was asked for."""
    run = new_token()
    lock = journal.lock(operator, command, rollout, run)

    def say(holder: Holder) -> None:
        output.say(f"Waiting at most {options.lock_wait_s:g} s for the journal's lock, held by {holder.description}.")

    lock.acquire(options.lock_wait_s, options.force, say)
    try:
        yield Recorder(journal, run, lock)
    finally:
        lock.release()


@contextmanager
def journal_or_none(output: Output, options: CommandOptions) -> Iterator[Journal | None]:
    """The journal, or `None` for one that can't be opened, which is said."""
    try:
        journal = Journal.open(options.journal)
    except JournalError as error:
        output.say(f"Warning: {error.message} The rollback goes on without a journal.")
        yield None
        return
    with journal:
        yield journal


@contextmanager
def rollback_lock(journal: Journal | None, output: Output, operator: str, rollout: str) -> Iterator[Recorder | None]:
    """While it is entered, the lock is ours if it was nobody's or the undone rollout's. Nothing is waited for."""
    if journal is None:
        yield None
        return
    run = new_token()
    lock = journal.lock(operator, "rollback", rollout, run)
    try:
        other = lock.take_over(rollout)
    except JournalError as error:
        output.say(f"Warning: {error.message} The rollback goes on without a journal.")
        yield None
        return
    if other is not None:
        output.say(f"The journal's lock is held by {other.description}. The rollback goes on without the lock.")
    try:
        yield Recorder(journal, run, lock)
    finally:
        lock.release()


def run_data(command: str, options: CommandOptions, tasks: TaskBuilder, release: str) -> Mapping[str, Any]:
    """What the first event of a run holds for those who read it later, and for going on with it. All of it plain JSON."""
    target = tasks.target
    return {
        "command": command,
        "operator": tasks.operator,
        "release": release,
        "release_path": target.path if target else None,
        "release_bytes": target.size_bytes if target else None,
        "release_version": target.version if target else None,
        "policy": tasks.policy.to_plain(),
        "inventory": [str(path.expanduser().absolute()) for path in options.inventories],
        "limit": [_absolute(limit) for limit in options.limits],
        "controller": this_process().to_plain(),
    }


def _absolute(limit: str) -> str:
    """A limit that names a file names it from everywhere."""
    parts = [
        f"@{Path(part[1:]).expanduser().absolute()}" if part.startswith("@") else part for part in limit.split(",")
    ]
    return ",".join(parts)
