"""The journal of a command that changes hosts: opened before a host is asked, locked before one is changed.

A rollback never waits: without a working journal it runs without one, and while another rollout holds the lock it runs
without the lock. It says so in one line.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.environment import CommandOptions
from fleet.errors import JournalError, LockHeld
from fleet.events import Event
from fleet.journal.journal import Journal, new_token
from fleet.journal.lock import Holder, JournalLock
from fleet.journal.process_identity import this_process
from fleet.onhost.protocol import Sender
from fleet.rollout.tasks import TaskBuilder
from fleet.typed_command import TypedCommand
from fleet.ui.output import Output


class Recorder:
    """Writes one run's events to the journal, and renews the journal's lock if the run holds it."""

    def __init__(self, journal: Journal, run: str, lock: JournalLock) -> None:
        self._journal = journal
        self._run = run
        self._lock = lock

    @property
    def sender(self) -> Sender:
        """This process and this journal, as hosts name them to other runs."""
        return sender(self._journal.id)

    def append_all(self, events: Sequence[Event]) -> None:
        """Writes the events to the disk, all or none of them. Raises `JournalError`."""
        self._journal.append_all(self._run, events)

    def beat(self) -> None:
        """Renews the lock, if the run holds it. Raises `LockHeld` when another run has taken it, and `JournalError`."""
        self._lock.beat()

    def set_rollout(self, rollout: str) -> None:
        """Records in the lock which rollout it is held for. Raises `LockHeld` when another run has taken it."""
        self._lock.set_rollout(rollout)


def sender(journal: str = "") -> Sender:
    """This process, and the id of the journal it writes to."""
    me = this_process()
    return Sender(journal, me.host, me.pid)


@contextmanager
def journal_lock(
    journal: Journal, output: Output, options: CommandOptions, operator: str, command: str, rollout: str = ""
) -> Iterator[Recorder]:
    """Holds the journal's lock inside. Raises `LockHeld` when another run still holds it after `--lock-wait`."""
    run = new_token()
    lock = journal.lock(operator, command, rollout, run)

    def say(holder: Holder) -> None:
        output.say(f"Waiting up to {options.lock_wait_s:g} s for the journal's lock, held by {holder.description}.")

    try:
        lock.acquire(options.lock_wait_s, options.force, say)
    except LockHeld as error:
        raise LockHeld(error.message, _past_the_lock(options.typed)) from error
    try:
        yield Recorder(journal, run, lock)
    finally:
        lock.release()


def _past_the_lock(typed: TypedCommand) -> str:
    """What to type when another run has the lock of the journal."""
    wait, force = typed.having("lock_wait", "--lock-wait", "5m"), typed.having("force", "--force")
    return (
        f"Wait for it: {wait.quoted}. If you know that this run is dead, take the lock: {force.quoted}; or free it: "
        f"{typed.other('unlock').having('force', '--force').quoted}. A rollback needs no lock."
    )


@contextmanager
def journal_or_none(output: Output, options: CommandOptions) -> Iterator[Journal | None]:
    """The journal; `None`, with a warning, if it can't be opened."""
    try:
        journal = Journal.open(options.journal)
    except JournalError as error:
        output.say(f"Warning: {error.message} The rollback continues without a journal.")
        yield None
        return
    with journal:
        yield journal


@contextmanager
def rollback_lock(journal: Journal | None, output: Output, operator: str, rollout: str) -> Iterator[Recorder | None]:
    """Holds the journal's lock inside, if it was free or the undone rollout held it. Never waits."""
    if journal is None:
        yield None
        return
    run = new_token()
    lock = journal.lock(operator, "rollback", rollout, run)
    try:
        other = lock.take_over(rollout)
    except JournalError as error:
        output.say(f"Warning: {error.message} The rollback continues without a journal.")
        yield None
        return
    if other is not None:
        output.say(f"The journal's lock is held by {other.description}. The rollback continues without the lock.")
    try:
        yield Recorder(journal, run, lock)
    finally:
        lock.release()


def run_data(command: str, options: CommandOptions, tasks: TaskBuilder, release: str) -> Mapping[str, Any]:
    """The data of a run's first event, as plain JSON: what `history` shows, and what `resume` needs."""
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
    """The limit with absolute paths for `@FILE`, so that `resume` can run in another directory."""
    parts = [
        f"@{Path(part[1:]).expanduser().absolute()}" if part.startswith("@") else part for part in limit.split(",")
    ]
    return ",".join(parts)
