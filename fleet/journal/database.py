"""One open connection to the journal's database, used by one thread.

What is committed is on the disk: write-ahead log with `synchronous=FULL`, or on an odd file system a rollback journal
with `synchronous=EXTRA`, which also syncs the folder (sqlite.org/pragma.html). Every trouble is a `JournalError` that
names the journal.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from fleet.errors import JournalError
from fleet.journal.location import Place, is_odd, make_file
from fleet.journal.schema import bring_up

BUSY_S = 10.0
"""How long a write waits for somebody else's; theirs take milliseconds."""
BEGIN = "begin"
CURE = (
    "Give it room, or its rights back, or name another one with --journal. "
    "The hosts know their rollouts themselves: `fleet status`."
)


class Database:
    """An open journal's database."""

    def __init__(self, place: Place, connection: Connection) -> None:
        self.place = place
        self._connection = connection

    @classmethod
    def open(cls, place: Place, *, is_odd: Callable[[Path], bool] = is_odd, busy_s: float = BUSY_S) -> "Database":
        """The database, of the newest form, ready to be written. Raises `JournalError`."""
        if place.path is not None:
            make_file(place.path)
        with _told(place, "opened"):
            connection = _connect(place, place.path is not None and is_odd(place.path), busy_s)
            database = cls(place, connection)
        try:
            with database.writing() as transaction:
                bring_up(transaction)
        except BaseException:
            connection.close()
            raise
        return database

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one moment of the journal and holds no writer up."""
        with _told(self.place, "read"):
            self._connection.info[BEGIN] = "BEGIN"
            with self._connection.begin():
                yield self._connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is on the disk when it is left. Nobody else writes meanwhile."""
        with _told(self.place, "written"):
            self._connection.info[BEGIN] = "BEGIN IMMEDIATE"
            with self._connection.begin():
                yield self._connection

    def close(self) -> None:
        """The connection is closed."""
        with _told(self.place, "closed"):
            self._connection.close()


@contextmanager
def _told(place: Place, done: str) -> Iterator[None]:
    try:
        yield
    except JournalError as error:
        named = (
            error.message
            if place.shown in error.message
            else f"the journal {place.shown} can't be used: {error.message}"
        )
        raise JournalError(named, error.remedy) from error
    except DBAPIError as error:
        raise JournalError(f"the journal {place.shown} can't be {done}: {error.orig}.", CURE) from error
    except ModuleNotFoundError as error:
        remedy = f"Install {error.name} beside fleet, or name a file with --journal."
        raise JournalError(f"the journal {place.shown} can't be {done}: {error}.", remedy) from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise JournalError(f"the journal {place.shown} can't be {done}: {error}.", CURE) from error


def _connect(place: Place, is_odd: bool, busy_s: float) -> Connection:
    if place.path is None:
        return create_engine(place.url, poolclass=NullPool).connect()
    engine = create_engine(place.url, poolclass=NullPool, connect_args={"timeout": busy_s})

    # sqlite3 would begin a transaction when it sees fit; here it begins when SQLAlchemy says so, and only then.
    @event.listens_for(engine, "connect")
    def is_connected(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        _make_durable(connection, is_odd)

    @event.listens_for(engine, "begin")
    def begins(connection: Connection) -> None:
        connection.exec_driver_sql(connection.info.get(BEGIN, "BEGIN"))

    return engine.connect()


def _make_durable(connection: sqlite3.Connection, is_odd: bool) -> None:
    wanted = "delete" if is_odd else "wal"
    mode = _pragma(connection, "journal_mode")
    if mode != wanted:
        mode = _pragma(connection, f"journal_mode={wanted}")
    if mode not in ("wal", "delete"):
        mode = _pragma(connection, "journal_mode=delete")
    _pragma(connection, f"synchronous={'FULL' if mode == 'wal' else 'EXTRA'}")


def _pragma(connection: sqlite3.Connection, words: str) -> str:
    row = connection.execute(f"PRAGMA {words}").fetchone()
    return str(row[0]).lower() if row else ""
