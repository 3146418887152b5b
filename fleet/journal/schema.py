"""The journal's tables, and the migrations from every older version of them.

The schema version is a number in the table `journal`. `MIGRATIONS[n]` leads from version n to n + 1; all missing
migrations run in one transaction. Only a new migration may change a table that has been released.
"""

import secrets
from collections.abc import Callable, Sequence

from fleet.errors import JournalError
from fleet.journal.sql import Connection

TABLES = frozenset(("journal", "events", "locks"))
THE_LOCK = "changing"

Migration = Callable[[Connection], None]


def _begin(connection: Connection) -> None:
    """`schema` is the schema version; `id` is random, made once, and names this journal on the hosts.

    Events are only ever added. `run` is the token of one command; a rollout has one or more runs (upgrade, commit,
    rollback).
    """
    connection.execute("CREATE TABLE journal (name VARCHAR(20) NOT NULL PRIMARY KEY, value VARCHAR(100) NOT NULL)")
    connection.execute(
        f"CREATE TABLE events ({connection.numbered_column('seq')}, rollout VARCHAR(100) NOT NULL, "
        "run VARCHAR(20) NOT NULL, at VARCHAR(40) NOT NULL, type VARCHAR(40) NOT NULL, host TEXT, body TEXT NOT NULL)"
    )
    connection.execute("CREATE INDEX events_of_a_rollout ON events (rollout, seq)")
    connection.execute("CREATE INDEX events_of_a_type ON events (type, seq)")
    connection.execute(
        "INSERT INTO journal (name, value) VALUES (:name, :value)",
        [{"name": "schema", "value": "0"}, {"name": "id", "value": secrets.token_hex(8)}],
    )


def _add_locks(connection: Connection) -> None:
    """`expires` is NULL when the lock is free; the row then still names its last holder."""
    connection.execute(
        "CREATE TABLE locks (name VARCHAR(20) NOT NULL PRIMARY KEY, token VARCHAR(20) NOT NULL, holder TEXT NOT NULL, "
        "beat VARCHAR(40), expires VARCHAR(40))"
    )
    connection.execute(
        "INSERT INTO locks (name, token, holder) VALUES (:name, :token, :holder)",
        {"name": THE_LOCK, "token": "", "holder": "{}"},
    )


MIGRATIONS: tuple[Migration, ...] = (_begin, _add_locks)


def schema_version(connection: Connection) -> int:
    """The schema version of the database; 0 for an empty one. Raises `JournalError` for the tables of another program."""
    tables = connection.tables() & TABLES
    if not tables:
        return 0
    found = property_of(connection, "schema") if "journal" in tables else None
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
        connection.execute(
            "UPDATE journal SET value = :version WHERE name = 'schema'", {"version": str(len(migrations))}
        )


def property_of(connection: Connection, name: str) -> str | None:
    """A value of the table `journal`: `schema` or `id`."""
    rows = connection.query("SELECT value FROM journal WHERE name = :name", {"name": name})
    return str(rows[0][0]) if rows else None
