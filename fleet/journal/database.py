"""The journal's database, open for one thread: transactions that are on the disk when they end.

Every error is a `JournalError` that names the journal.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.errors import JournalError
from fleet.journal.file_connection import FileConnection
from fleet.journal.location import Location, create_file, is_on_shared_file_system
from fleet.journal.schema import upgrade_schema
from fleet.journal.sql import Connection, DatabaseFault

BUSY_S = 10.0
"""How long a write waits for the writes of other processes, each of which takes milliseconds."""
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
            connection = _connect(location, is_shared, busy_s)
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
        with _naming(self.location, "read"), self._connection.transaction(is_writer=False):
            yield self._connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is on the disk when the block ends. It excludes every other writer."""
        with _naming(self.location, "written"), self._connection.transaction(is_writer=True):
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
    except ModuleNotFoundError as error:
        remedy = f"Install {error.name} where fleet is installed, or use a file: --journal FILE."
        raise JournalError(f"The journal {location.display_name} can't be {done}: {error}.", remedy) from error
    except (DatabaseFault, sqlite3.Error, OSError) as error:
        raise JournalError(f"The journal {location.display_name} can't be {done}: {error}.", REMEDY) from error


def _connect(location: Location, is_shared: Callable[[Path], bool], busy_s: float) -> Connection:
    if location.path is not None:
        return FileConnection(location.path, is_shared(location.path), busy_s)
    from fleet.journal.server_connection import ServerConnection

    return ServerConnection(location.url)
