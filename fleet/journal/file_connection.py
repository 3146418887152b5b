"""A connection to a journal in a file, by the standard library's SQLite: it loads in a few milliseconds.

A committed transaction is on the disk: write-ahead log with `synchronous=FULL`, or on a shared file system a rollback
journal with `synchronous=EXTRA`, which also syncs the folder (sqlite.org/pragma.html).
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.journal.sql import NO_VALUES, Values


class FileConnection:
    """An open file. `is_shared`: its file system has no memory that two machines share. `busy_s`: how long a write waits."""

    def __init__(self, path: Path, is_shared: bool, busy_s: float) -> None:
        # Python's sqlite3 begins transactions on its own; with isolation_level None only `transaction` does.
        self._connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None)
        try:
            _make_durable(self._connection, is_shared)
        except BaseException:
            self._connection.close()
            raise

    def execute(self, sql: str, values: Values | Sequence[Values] = NO_VALUES) -> int:
        if isinstance(values, Mapping):
            return self._connection.execute(sql, values).rowcount
        return self._connection.executemany(sql, values).rowcount

    def query(self, sql: str, values: Values = NO_VALUES) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self, is_writer: bool) -> Iterator[None]:
        # A writer that began as a reader could find its snapshot outdated, and fail (sqlite.org/lang_transaction.html).
        self._connection.execute("BEGIN IMMEDIATE" if is_writer else "BEGIN")
        try:
            yield
            self._connection.commit()
        except BaseException:
            self._connection.rollback()
            raise

    def tables(self) -> set[str]:
        return {name for (name,) in self.query("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def numbered_column(self, name: str) -> str:
        return f"{name} INTEGER PRIMARY KEY NOT NULL"

    def close(self) -> None:
        self._connection.close()


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
