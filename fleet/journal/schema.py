"""The journal's tables, and the migrations from every older version of them.

The schema version is a number in the table `journal`. `MIGRATIONS[n]` leads from version n to n + 1; all missing
migrations run in one transaction. Only a new migration may change a table that has been released.
"""

import secrets
from collections.abc import Callable, Sequence

from sqlalchemy import Column, Connection, Index, Integer, MetaData, String, Table, Text, inspect, select

from fleet.errors import JournalError

TABLES = MetaData()
PROPERTIES = Table(
    "journal", TABLES, Column("name", String(20), primary_key=True), Column("value", String(100), nullable=False)
)
"""`schema` is the schema version; `id` is random, made once, and names this journal on the hosts."""
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
"""Append-only. `run` is the token of one command; a rollout has one or more runs (upgrade, commit, rollback)."""
LOCKS = Table(
    "locks",
    TABLES,
    Column("name", String(20), primary_key=True),
    Column("token", String(20), nullable=False),
    Column("holder", Text, nullable=False),
    Column("beat", String(40)),
    Column("expires", String(40)),
)
"""`expires` is NULL when the lock is free; the row then still names its last holder."""
THE_LOCK = "changing"

Migration = Callable[[Connection], None]


def _begin(connection: Connection) -> None:
    PROPERTIES.create(connection)
    EVENTS.create(connection)
    connection.execute(
        PROPERTIES.insert(), [{"name": "schema", "value": "0"}, {"name": "id", "value": secrets.token_hex(8)}]
    )


def _add_locks(connection: Connection) -> None:
    LOCKS.create(connection)
    connection.execute(LOCKS.insert().values(name=THE_LOCK, token="", holder="{}"))


MIGRATIONS: tuple[Migration, ...] = (_begin, _add_locks)


def schema_version(connection: Connection) -> int:
    """The schema version of the database; 0 for an empty one. Raises `JournalError` for the tables of another program."""
    tables = set(inspect(connection).get_table_names())
    if not tables & set(TABLES.tables):
        return 0
    found = None
    if PROPERTIES.name in tables:
        found = connection.scalar(select(PROPERTIES.c.value).where(PROPERTIES.c.name == "schema"))
    if found is None or not found.isdigit():
        raise JournalError("Its tables are not those of a fleet journal.", "Name another database: --journal FILE.")
    return int(found)


def upgrade_schema(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Runs the missing migrations. Raises `JournalError` when a newer fleet has written the database."""
    found = schema_version(connection)
    if found > len(migrations):
        raise JournalError(
            f"A newer fleet has written it (schema version {found}; this fleet knows up to {len(migrations)}).",
            "Upgrade fleet on this machine, or use another journal: --journal FILE.",
        )
    for migrate in migrations[found:]:
        migrate(connection)
    if found < len(migrations):
        connection.execute(PROPERTIES.update().where(PROPERTIES.c.name == "schema").values(value=str(len(migrations))))
