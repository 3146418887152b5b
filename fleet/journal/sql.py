"""What the journal asks of a database: a few statements of plain SQL, in transactions.

`file_connection.py` gives it for a file, by the standard library; `server_connection.py` for a database server, by
SQLAlchemy. Both take the same statements, with `:name` where a value goes.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Values = Mapping[str, str | int | None]
NO_VALUES: Values = {}


class DatabaseFault(Exception):
    """What the database says of its own trouble."""


class Connection(Protocol):
    """An open connection, used by one thread. Its errors are `sqlite3.Error`, `DatabaseFault` and `OSError`."""

    def execute(self, sql: str, values: Values | Sequence[Values] = NO_VALUES) -> int:
        """Carries the statement out, once for the values or once for each of a list; returns how many rows it changed."""
        ...

    def query(self, sql: str, values: Values = NO_VALUES) -> list[tuple[Any, ...]]:
        """The rows of the answer."""
        ...

    def transaction(self, is_writer: bool) -> AbstractContextManager[None]:
        """A transaction; an exception undoes it. A writer excludes other writers from its beginning, where that is known."""
        ...

    def tables(self) -> set[str]:
        """The names of the tables."""
        ...

    def numbered_column(self, name: str) -> str:
        """The declaration of a primary key that counts by itself."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


def one_of(column: str, wanted: Sequence[str]) -> tuple[str, Values]:
    """The condition that the column has one of these values, and its values."""
    values = {f"{column}_{number}": each for number, each in enumerate(wanted)}
    return f"{column} IN ({', '.join(f':{name}' for name in values)})", values
