"""The journal's lock: one run at a time changes hosts, and no lock lasts for ever.

The holder renews the lock with a heartbeat. The lock is free when `EXPIRY_S` passed without one, and when its holder is
known to have died. To take it, a run updates the very row it has read (compare and swap), so that two runs can't both win.
A lock can be taken by force; its holder learns so, and by whom, at its next heartbeat, because the row is never deleted.

Times are wall-clock times of the writers: laptops that share a journal must have their clocks set.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fleet.errors import JournalError, LockHeld
from fleet.journal.database import Database
from fleet.journal.process_identity import Process, is_gone, this_process
from fleet.journal.schema import THE_LOCK
from fleet.journal.sql import Connection

EXPIRY_S = 60.0
BEAT_S = 10.0
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of the lock, or its last one. `token` names the run; `beat` and `expires` are `None` for a free lock."""

    token: str
    operator: str
    process: Process
    command: str
    rollout: str
    since: datetime
    beat: datetime | None = None
    expires: datetime | None = None

    @property
    def description(self) -> str:
        """Operator, command, rollout, pid and machine, in one line."""
        about = f" of rollout {self.rollout}" if self.rollout else ""
        return f"{self.operator} (fleet {self.command}{about}, pid {self.process.pid} on {self.process.host})"


class JournalLock:
    """The lock, as the run `me` uses it. `clock` gives the time of day; `pause` sleeps for some seconds."""

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
        """Takes the lock. Raises `LockHeld` when another run still holds it after `wait_s`.

        `on_wait` is called once with the holder before waiting; with `force` the lock is taken from its holder.
        """
        until = self._clock() + timedelta(seconds=wait_s)
        other = self._try(force)
        if other is not None and wait_s > 0:
            on_wait(other)
        while other is not None:
            left_s = (until - self._clock()).total_seconds()
            if left_s <= 0:
                raise lock_held(other, self._clock())
            self._pause(min(POLL_S, left_s))
            other = self._try(force)

    def take_over(self, rollout: str) -> Holder | None:
        """Takes the lock if it is free or held for `rollout`; returns its holder if it is held for another rollout."""
        other = self._try(force=False)
        if other is not None and other.rollout == rollout:
            other = self._try(force=True)
        return other

    def set_rollout(self, rollout: str) -> None:
        """Writes into the lock which rollout it is held for. Raises `LockHeld` when another run has taken it."""
        self._me = replace(self._me, rollout=rollout)
        self._renew()

    def beat(self) -> None:
        """Renews the lock if `BEAT_S` has passed since the last time. Raises `LockHeld` when another run has taken it."""
        # abs(): after sleep, or when the clock was set forward or back, the lock is renewed at once.
        if self._has_it and abs((self._clock() - self._beat_at).total_seconds()) >= BEAT_S:
            self._renew()

    def release(self) -> None:
        """Frees the lock if this run holds it. If the journal can't be written, the lock expires by itself."""
        if self._has_it:
            self._has_it = False
            with suppress(JournalError), self._database.writing() as connection:
                connection.execute(
                    "UPDATE locks SET beat = NULL, expires = NULL WHERE name = :name AND token = :token",
                    {"name": THE_LOCK, "token": self._me.token},
                )

    def holder(self) -> Holder | None:
        """The current holder, which may be this run; `None` when the lock is free."""
        with self._database.reading() as connection:
            found = _holder_of(_row(connection))
        return found if found is not None and self._is_held(found) else None

    def force_release(self) -> Holder | None:
        """Frees the lock and returns its holder, which learns at its next heartbeat which run freed it."""
        with self._database.writing() as connection:
            row = _row(connection)
            found = _holder_of(row)
            self._write(connection, row, self._me, expires=None)
        return found if found is not None and self._is_held(found) else None

    def _try(self, force: bool) -> Holder | None:
        """Takes the lock and returns `None`, or returns the run that holds it."""
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
                taker = found.description if found else "an unknown run"
                raise LockHeld(
                    f"The journal's lock was taken over by {taker}.", "See `fleet unlock` and `fleet history`."
                )
            self._write(connection, row, self._me, self._clock() + timedelta(seconds=EXPIRY_S))
        self._beat_at = self._clock()

    def _write(self, connection: Connection, seen: "_Row", holder: Holder, expires: datetime | None) -> bool:
        """Writes the holder if the row is still as it was read, and returns whether it was."""
        unchanged = "beat IS NULL" if seen.beat is None else "beat = :seen_beat"
        values = {
            "name": THE_LOCK,
            "seen_token": seen.token,
            "token": holder.token,
            "holder": _text(holder),
            "beat": self._clock().isoformat() if expires else None,
            "expires": expires.isoformat() if expires else None,
        }
        if seen.beat is not None:
            values["seen_beat"] = seen.beat
        changed = connection.execute(
            "UPDATE locks SET token = :token, holder = :holder, beat = :beat, expires = :expires "
            f"WHERE name = :name AND token = :seen_token AND {unchanged}",
            values,
        )
        return changed == 1

    def _is_held(self, holder: Holder) -> bool:
        if holder.expires is None or holder.expires <= self._clock():
            return False
        return not is_gone(holder.process, this_process())


def lock_held(holder: Holder, now: datetime) -> LockHeld:
    """The error that names the holder and what the operator can do."""
    heard = (
        f"last heartbeat {max((now - holder.beat).total_seconds(), 0.0):.0f} s ago"
        if holder.beat
        else "no heartbeat yet"
    )
    until = f"{holder.expires:%H:%M:%S}" if holder.expires else "now"
    return LockHeld(
        f"The journal's lock is held by {holder.description} since {holder.since:%F %H:%M:%S} UTC, {heard}. "
        f"Without another heartbeat the lock expires at {until} UTC.",
        "Wait for it with --lock-wait 5m. If you know that this run is dead, take the lock with --force, or free it with "
        "`fleet unlock --force`. A rollback needs no lock.",
    )


class _Row(NamedTuple):
    """The lock's row."""

    token: str
    holder: str
    beat: str | None
    expires: str | None


def _row(connection: Connection) -> _Row:
    rows = connection.query("SELECT token, holder, beat, expires FROM locks WHERE name = :name", {"name": THE_LOCK})
    if not rows:
        raise JournalError("Its lock is missing.", "Move the journal aside; the next run creates a new one.")
    return _Row(*rows[0])


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


def _holder_of(row: _Row) -> Holder | None:
    """The last holder; `None` if there never was one."""
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
        raise JournalError(
            f"Its lock can't be read: {error}.", "A newer fleet may have written it: upgrade fleet on this machine."
        ) from error
