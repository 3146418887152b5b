"""The journal's tables, and the way from every older form to this one.

The form is a number in the table `journal`. `MIGRATIONS[n]` leads from form n to n + 1; all that are missing run in one
transaction. A table that has once been released is changed by a new migration only.
"""

import secrets
from collections.abc import Callable, Sequence

from sqlalchemy import Column, Connection, Index, Integer, MetaData, String, Table, Text, inspect, select

from fleet.errors import JournalError

TABLES = MetaData()
BOOK = Table(
    "journal", TABLES, Column("name", String(20), primary_key=True), Column("value", String(100), nullable=False)
)
"""`schema` is the form; `id` is drawn once, and is what hosts know this journal by."""
EVENTS = Table(
    "events",
    TABLES,
    Column("seq", Integer, primary_key=True),
    Column("rollout", String(100), nullable=False),
    Column("run", String(20), nullable=False),
    Column("at", String(40), nullable=False),
    Column("type", String(40), nullable=False),
    Column("host", Text),
    Column("body", Text, nullable=False),
    Index("events_of_a_rollout", "rollout", "seq"),
    Index("events_of_a_type", "type", "seq"),
)
"""Append-only. A run is one command; several (upgrade, commit, rollback) belong to a rollout, and may be at work at once."""
LOCKS = Table(
    "locks",
    TABLES,
    Column("name", String(20), primary_key=True),
    Column("token", String(20), nullable=False),
    Column("holder", Text, nullable=False),
    Column("beat", String(40)),
    Column("expires", String(40)),
)
"""`expires` is empty when nobody holds the lock; the row then still names who held it last."""
THE_LOCK = "changing"

Migration = Callable[[Connection], None]


def _begin(connection: Connection) -> None:
    BOOK.create(connection)
    EVENTS.create(connection)
    connection.execute(BOOK.insert(), [{"name": "schema", "value": "0"}, {"name": "id", "value": secrets.token_hex(8)}])


def _add_locks(connection: Connection) -> None:
    LOCKS.create(connection)
    connection.execute(LOCKS.insert().values(name=THE_LOCK, token="", holder="{}"))


MIGRATIONS: tuple[Migration, ...] = (_begin, _add_locks)


def form(connection: Connection) -> int:
    """The form that the database has; 0 for an empty one. Raises `JournalError` for tables that are not fleet's."""
    tables = set(inspect(connection).get_table_names())
    if not tables & set(TABLES.tables):
        return 0
    found = None
    if BOOK.name in tables:
        found = connection.scalar(select(BOOK.c.value).where(BOOK.c.name == "schema"))
    if found is None or not found.isdigit():
        raise JournalError("its tables are not those of a journal.", "Name another database with --journal.")
    return int(found)


def bring_up(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """The database has the newest form. Raises `JournalError` when it has a newer one than this fleet knows."""
    found = form(connection)
    if found > len(migrations):
        raise JournalError(
            f"it was written by a newer fleet (form {found}; this one knows {len(migrations)}).",
            "Use that fleet, or name another file with --journal.",
        )
    for migrate in migrations[found:]:
        migrate(connection)
    if found < len(migrations):
        connection.execute(BOOK.update().where(BOOK.c.name == "schema").values(value=str(len(migrations))))
