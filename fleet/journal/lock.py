"""One changing run per journal at a time, and nobody locked out for ever.

A holder beats; one that was not heard of for `EXPIRY_S` holds nothing any more, and one that is known to be dead blocks
nobody. Who takes the lock says which row it saw (an UPDATE that can't be won twice), so that two can't both have it. A
lock may be taken by force: its holder finds that out at its next beat, and by name, because a row is never removed.

Times are the wall clock's of whoever wrote them: laptops that share a journal are expected to know the time of day.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Row, select

from fleet.errors import JournalError, LockHeld
from fleet.journal.database import Database
from fleet.journal.process_identity import Process, is_gone, this_process
from fleet.journal.schema import LOCKS, THE_LOCK

EXPIRY_S = 60.0
BEAT_S = 10.0
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock, or held it. `token` is the run's; `beat` and `expires` are `None` where nobody holds it."""

    token: str
    operator: str
    process: Process
    command: str
    rollout: str
    since: datetime
    beat: datetime | None = None
    expires: datetime | None = None

    @property
    def words(self) -> str:
        """Who, where and what for, in one line."""
        about = f" of rollout {self.rollout}" if self.rollout else ""
        return f"{self.operator} (fleet {self.command}{about}, pid {self.process.pid} on {self.process.host})"


class JournalLock:
    """The lock, as the run `me` sees it. `clock` gives the time of day; `pause` is how a wait passes time."""

    def __init__(
        self,
        database: Database,
        me: Holder,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._me = me
        self._clock = clock
        self._pause = pause
        self._has_it = False
        self._beat_at = clock()

    def acquire(
        self, wait_s: float = 0.0, force: bool = False, on_wait: Callable[[Holder], None] = lambda holder: None
    ) -> None:
        """The lock is ours. Raises `LockHeld` when it is another's, and after `wait_s` still is."""
        until = self._clock() + timedelta(seconds=wait_s)
        other = self._try(force)
        if other is not None and wait_s > 0:
            on_wait(other)
        while other is not None:
            left_s = (until - self._clock()).total_seconds()
            if left_s <= 0:
                raise held(other, self._clock())
            self._pause(min(POLL_S, left_s))
            other = self._try(force)

    def take_over(self, rollout: str) -> Holder | None:
        """`None`: the lock is ours, taken from `rollout` itself if need be. Else who holds it for another rollout."""
        other = self._try(force=False)
        if other is not None and other.rollout == rollout:
            other = self._try(force=True)
        return other

    def name(self, rollout: str) -> None:
        """The lock says that it is held for this rollout. Raises `LockHeld` when it is not ours any more."""
        self._me = replace(self._me, rollout=rollout)
        self._renew()

    def beat(self) -> None:
        """The lock doesn't expire; to be called often, it writes each `BEAT_S`.

        Raises `LockHeld` when somebody else has taken it.
        """
        # Either way: a laptop that slept, or whose clock was set, beats at once.
        if self._has_it and abs((self._clock() - self._beat_at).total_seconds()) >= BEAT_S:
            self._renew()

    def release(self) -> None:
        """The lock is nobody's, if it was ours. A journal that can't be written now keeps it until it expires."""
        if self._has_it:
            self._has_it = False
            with suppress(JournalError), self._database.writing() as connection:
                mine = (LOCKS.c.name == THE_LOCK) & (LOCKS.c.token == self._me.token)
                connection.execute(LOCKS.update().where(mine).values(beat=None, expires=None))

    def holder(self) -> Holder | None:
        """Who holds the lock now, we among them; `None` when it may be taken."""
        with self._database.reading() as connection:
            found = _holder_of(_row(connection))
        return found if found is not None and self._is_held(found) else None

    def break_(self) -> Holder | None:
        """Nobody holds the lock; who did. The one whose lock it was is told our name at its next beat."""
        with self._database.writing() as connection:
            row = _row(connection)
            found = _holder_of(row)
            self._write(connection, row, self._me, expires=None)
        return found if found is not None and self._is_held(found) else None

    def _try(self, force: bool) -> Holder | None:
        """`None` when the lock is ours now, else who has it."""
        with self._database.writing() as connection:
            row = _row(connection)
            found = _holder_of(row)
            if found is not None and found.token != self._me.token and self._is_held(found) and not force:
                return found
            if not self._write(connection, row, self._me, self._clock() + timedelta(seconds=EXPIRY_S)):
                return _holder_of(_row(connection))
        self._has_it, self._beat_at = True, self._clock()
        return None

    def _renew(self) -> None:
        with self._database.writing() as connection:
            row = _row(connection)
            found = _holder_of(row)
            if found is None or found.token != self._me.token:
                self._has_it = False
                who = found.words if found else "somebody who left no name"
                raise LockHeld(f"the journal's lock was taken over by {who}", "See `fleet unlock` and `fleet history`.")
            self._write(connection, row, self._me, self._clock() + timedelta(seconds=EXPIRY_S))
        self._beat_at = self._clock()

    def _write(self, connection: Connection, seen: Row[tuple[str, ...]], who: Holder, expires: datetime | None) -> bool:
        """Whether the row that was seen is ours now; another one may have been quicker."""
        same = (LOCKS.c.name == THE_LOCK) & (LOCKS.c.token == seen.token)
        same &= LOCKS.c.beat.is_(None) if seen.beat is None else LOCKS.c.beat == seen.beat
        beat = self._clock().isoformat() if expires else None
        values = {
            "token": who.token,
            "holder": _text(who),
            "beat": beat,
            "expires": expires.isoformat() if expires else None,
        }
        return connection.execute(LOCKS.update().where(same).values(**values)).rowcount == 1

    def _is_held(self, holder: Holder) -> bool:
        if holder.expires is None or holder.expires <= self._clock():
            return False
        return not is_gone(holder.process, this_process())


def held(holder: Holder, now: datetime) -> LockHeld:
    """The refusal that names the holder and the ways on."""
    heard = (
        f"last heard of {max((now - holder.beat).total_seconds(), 0.0):.0f} s ago" if holder.beat else "never heard of"
    )
    until = f"{holder.expires:%H:%M:%S}" if holder.expires else "now"
    return LockHeld(
        f"the journal's lock is held by {holder.words} since {holder.since:%F %H:%M:%S} UTC, {heard}; "
        f"if it stays silent, the lock expires at {until} UTC.",
        "Wait for it with --lock-wait 5m; or, when you know that it is dead, take over with --force, or free it with "
        "`fleet unlock --force`. A rollback never waits.",
    )


def _row(connection: Connection) -> Row[tuple[str, ...]]:
    row = connection.execute(select(LOCKS).where(LOCKS.c.name == THE_LOCK)).one_or_none()
    if row is None:
        raise JournalError("its lock is missing.", "Move it aside: the next run makes a new one.")
    return row


def _text(holder: Holder) -> str:
    return json.dumps(
        {
            "operator": holder.operator,
            "process": holder.process.to_plain(),
            "command": holder.command,
            "rollout": holder.rollout,
            "since": holder.since.isoformat(),
        }
    )


def _holder_of(row: Row[tuple[str, ...]]) -> Holder | None:
    """Who wrote the row last, `None` before the first one."""
    if not row.token:
        return None
    try:
        plain = json.loads(row.holder)
        return Holder(
            token=row.token,
            operator=str(plain["operator"]),
            process=Process.from_plain(plain["process"]),
            command=str(plain["command"]),
            rollout=str(plain["rollout"]),
            since=datetime.fromisoformat(plain["since"]),
            beat=datetime.fromisoformat(row.beat) if row.beat else None,
            expires=datetime.fromisoformat(row.expires) if row.expires else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise JournalError(f"what its lock says can't be read: {error}.", "Use the fleet that wrote it.") from error
