"""One open connection to the journal's database, used by one thread.

A committed transaction is on the disk: write-ahead log with `synchronous=FULL`, or on a shared file system a rollback
journal with `synchronous=EXTRA`, which also syncs the folder (sqlite.org/pragma.html). Every error is a `JournalError`
that names the journal.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from fleet.errors import JournalError
from fleet.journal.location import Location, create_file, is_on_shared_file_system
from fleet.journal.schema import upgrade_schema

BUSY_S = 10.0
"""How long a write waits for the writes of other processes, each of which takes milliseconds."""
BEGIN = "begin"
REMEDY = (
    "Free space on its disk or restore your write permission, or use another one: --journal FILE. "
    "`fleet status` asks the hosts themselves."
)


class Database:
    """An open journal's database."""

    def __init__(self, location: Location, connection: Connection) -> None:
        self.location = location
        self._connection = connection

    @classmethod
    def open(
        cls, location: Location, *, is_shared: Callable[[Path], bool] = is_on_shared_file_system, busy_s: float = BUSY_S
    ) -> "Database":
        """The database with the newest schema, ready for writing. Raises `JournalError`."""
        if location.path is not None:
            create_file(location.path)
        with _naming(location, "opened"):
            connection = _connect(location, location.path is not None and is_shared(location.path), busy_s)
            database = cls(location, connection)
        try:
            with database.writing() as transaction:
                upgrade_schema(transaction)
        except BaseException:
            connection.close()
            raise
        return database

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads one consistent state of the journal and blocks no writer."""
        with _naming(self.location, "read"):
            self._connection.info[BEGIN] = "BEGIN"
            with self._connection.begin():
                yield self._connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is on the disk when the block ends. It excludes every other writer."""
        with _naming(self.location, "written"):
            self._connection.info[BEGIN] = "BEGIN IMMEDIATE"
            with self._connection.begin():
                yield self._connection

    def close(self) -> None:
        """Closes the connection."""
        with _naming(self.location, "closed"):
            self._connection.close()


@contextmanager
def _naming(location: Location, done: str) -> Iterator[None]:
    try:
        yield
    except JournalError as error:
        named = (
            error.message
            if location.display_name in error.message
            else f"The journal {location.display_name} can't be used. {error.message}"
        )
        raise JournalError(named, error.remedy) from error
    except DBAPIError as error:
        raise JournalError(f"The journal {location.display_name} can't be {done}: {error.orig}.", REMEDY) from error
    except ModuleNotFoundError as error:
        remedy = f"Install {error.name} where fleet is installed, or use a file: --journal FILE."
        raise JournalError(f"The journal {location.display_name} can't be {done}: {error}.", remedy) from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise JournalError(f"The journal {location.display_name} can't be {done}: {error}.", REMEDY) from error


def _connect(location: Location, is_shared: bool, busy_s: float) -> Connection:
    if location.path is None:
        return create_engine(location.url, poolclass=NullPool).connect()
    engine = create_engine(location.url, poolclass=NullPool, connect_args={"timeout": busy_s})

    # Python's sqlite3 begins transactions on its own; with isolation_level None only SQLAlchemy's "begin" does.
    @event.listens_for(engine, "connect")
    def is_connected(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        _make_durable(connection, is_shared)

    @event.listens_for(engine, "begin")
    def begins(connection: Connection) -> None:
        connection.exec_driver_sql(connection.info.get(BEGIN, "BEGIN"))

    return engine.connect()


def _make_durable(connection: sqlite3.Connection, is_shared: bool) -> None:
    wanted = "delete" if is_shared else "wal"
    mode = _pragma(connection, "journal_mode")
    if mode != wanted:
        mode = _pragma(connection, f"journal_mode={wanted}")
    if mode not in ("wal", "delete"):
        mode = _pragma(connection, "journal_mode=delete")
    _pragma(connection, f"synchronous={'FULL' if mode == 'wal' else 'EXTRA'}")


def _pragma(connection: sqlite3.Connection, words: str) -> str:
    row = connection.execute(f"PRAGMA {words}").fetchone()
    return str(row[0]).lower() if row else ""
