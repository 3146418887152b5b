"""A connection to the journal on a database server, by SQLAlchemy, which takes 0.4 s of CPU to load.

So only a `--journal` that is a URL imports this module.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Column, Integer, MetaData, Table, create_engine, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateColumn

from fleet.journal.sql import NO_VALUES, DatabaseFault, Values


class ServerConnection:
    """An open connection. Raises `DatabaseFault`, and `ModuleNotFoundError` where the server's driver is not installed."""

    def __init__(self, url: str) -> None:
        with _translated():
            self._connection = create_engine(url, poolclass=NullPool).connect()

    def execute(self, sql: str, values: Values | Sequence[Values] = NO_VALUES) -> int:
        given = values if isinstance(values, Mapping) else list(values)
        return self._connection.execute(text(sql), given).rowcount

    def query(self, sql: str, values: Values = NO_VALUES) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._connection.execute(text(sql), values)]

    @contextmanager
    def transaction(self, is_writer: bool) -> Iterator[None]:
        with _translated(), self._connection.begin():
            yield

    def tables(self) -> set[str]:
        return set(inspect(self._connection).get_table_names())

    def numbered_column(self, name: str) -> str:
        column = Column(name, Integer, primary_key=True)
        Table("any", MetaData(), column)
        return f"{CreateColumn(column).compile(dialect=self._connection.dialect)} PRIMARY KEY"

    def close(self) -> None:
        with _translated():
            self._connection.close()


def parsed(url: str) -> tuple[str, str, str, str | None, bool]:
    """A URL's backend, the URL without and with its password, its database, and whether it has options.

    Raises `ValueError`, without the text: it may hold a password.
    """
    try:
        found = make_url(url)
        backend = found.get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise ValueError("not a database URL") from error
    shown, whole = (found.render_as_string(hide_password=hide) for hide in (True, False))
    return backend, shown, whole, found.database, bool(found.query)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise DatabaseFault(str(error.orig)) from error
    except SQLAlchemyError as error:
        raise DatabaseFault(str(error)) from error
