"""The journal's database: durable writes, migrations, and errors that name the journal and a remedy."""

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.errors import JournalError
from fleet.journal.database import Database
from fleet.journal.journal import Journal
from fleet.journal.location import journal_location
from fleet.journal.schema import MIGRATIONS, TABLES, Migration, schema_version, upgrade_schema
from fleet.journal.sql import Connection
from tests.support.places import ROOT


def opened(path: Path, is_shared: bool = False) -> Database:
    return Database.open(journal_location(str(path)), is_shared=lambda _: is_shared)


def pragma(database: Database, name: str) -> str:
    with database.reading() as connection:
        return str(connection.query(f"PRAGMA {name}")[0][0])


@pytest.mark.parametrize(("is_shared", "mode", "synchronous"), [(False, "wal", "2"), (True, "delete", "3")])
def test_a_committed_transaction_is_on_the_disk(path: Path, is_shared: bool, mode: str, synchronous: str) -> None:
    database = opened(path, is_shared)

    assert (pragma(database, "journal_mode"), pragma(database, "synchronous")) == (mode, synchronous)
    database.close()


def test_a_journal_that_was_moved_to_a_shared_file_system_leaves_wal_mode(path: Path) -> None:
    opened(path).close()

    database = opened(path, is_shared=True)

    assert pragma(database, "journal_mode") == "delete"
    database.close()


def test_the_files_beside_the_journal_are_accessible_to_their_owner_only(path: Path) -> None:
    database = opened(path)

    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}

    assert set(modes) == {"journal.db", "journal.db-wal", "journal.db-shm"}
    assert set(modes.values()) == {0o600}
    database.close()


def test_an_empty_file_becomes_a_journal_with_the_newest_schema(path: Path) -> None:
    path.parent.mkdir()
    path.touch()

    database = opened(path)

    with database.reading() as connection:
        assert schema_version(connection) == len(MIGRATIONS)
        assert connection.tables() == TABLES
    database.close()


VERSION_1 = """\
CREATE TABLE journal (name VARCHAR(20) NOT NULL PRIMARY KEY, value VARCHAR(100) NOT NULL);
CREATE TABLE events (seq INTEGER NOT NULL PRIMARY KEY, rollout VARCHAR(100) NOT NULL, run VARCHAR(20) NOT NULL,
                     at VARCHAR(40) NOT NULL, type VARCHAR(40) NOT NULL, host TEXT, body TEXT NOT NULL);
CREATE INDEX events_of_a_rollout ON events (rollout, seq);
CREATE INDEX events_of_a_type ON events (type, seq);
INSERT INTO journal VALUES ('schema', '1'), ('id', '0123456789abcdef');
INSERT INTO events VALUES (1, '20261123-1000-test', 'aaaa', '2026-11-23T10:00:00.000000+00:00', 'rollout_started', NULL,
    '{"at":"2026-11-23T10:00:00.000000+00:00","rollout":"20261123-1000-test","type":"rollout_started","message":"",
      "data":{"batches":[["web-01"]],"command":"upgrade"}}');
"""


def test_a_journal_of_schema_version_1_is_migrated_and_keeps_its_events(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as made:
        made.executescript(VERSION_1)
    made.close()

    with Journal.open(str(path)) as journal:
        assert journal.id == "0123456789abcdef"
        assert [run.command for run in journal.runs("20261123-1000-test")] == ["upgrade"]
        journal.lock("ann@desk", "commit").acquire()


def _colours(connection: Connection) -> None:
    connection.execute("ALTER TABLE events ADD COLUMN colour TEXT")


def _breaks(connection: Connection) -> None:
    connection.execute("CREATE TABLE half (x TEXT)")
    raise JournalError("it breaks.")


def bring(path: Path, *more: Migration) -> None:
    database = opened(path)
    try:
        with database.writing() as connection:
            upgrade_schema(connection, (*MIGRATIONS, *more))
    finally:
        database.close()


def test_a_failed_migration_leaves_the_journal_unchanged(path: Path) -> None:
    with pytest.raises(JournalError, match="it breaks"):
        bring(path, _colours, _breaks)

    database = opened(path)
    with database.reading() as connection:
        assert schema_version(connection) == len(MIGRATIONS)
        assert "half" not in connection.tables()
        assert "colour" not in {column[1] for column in connection.query("PRAGMA table_info(events)")}
    database.close()


def test_a_journal_of_a_newer_fleet_is_refused_with_the_remedy(path: Path) -> None:
    bring(path, _colours)

    with pytest.raises(JournalError) as refused:
        opened(path)

    assert (
        f"The journal {path} can't be used. A newer fleet has written it (schema version 3; this fleet knows up to 2)"
        in str(refused.value)
    )
    assert "Upgrade fleet" in refused.value.remedy


def test_a_database_of_another_program_is_refused_and_not_changed(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE events (what TEXT)")
    made.close()

    with pytest.raises(JournalError, match="not those of a fleet journal"):
        opened(path)

    with sqlite3.connect(path) as there:
        assert [name for (name,) in there.execute("SELECT name FROM sqlite_master")] == ["events"]
    there.close()


def test_each_journal_keeps_an_id_of_its_own(tmp_path: Path) -> None:
    ids = []
    for name in ("a", "a", "b"):
        with Journal.open(str(tmp_path / name)) as journal:
            ids.append(journal.id)

    assert ids[0] == ids[1] != ids[2]


def test_a_file_that_is_not_a_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("these are notes of mine, " * 100)

    with pytest.raises(JournalError, match=f"The journal {path} can't be opened: file is not a database"):
        opened(path)

    assert path.read_text().startswith("these are")


def test_a_damaged_journal_is_refused(path: Path) -> None:
    with Journal.open(str(path)):
        pass
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))

    with pytest.raises(JournalError) as refused, Journal.open(str(path)) as journal:
        journal.lock("ann@desk", "upgrade").acquire()

    assert str(path) in refused.value.message
    assert "--journal" in refused.value.remedy


def test_a_server_whose_driver_is_not_installed_is_refused() -> None:
    with pytest.raises(JournalError) as refused:
        Database.open(journal_location("postgresql+psycopg://ann:secret@db/fleet"))

    assert "psycopg" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_database_that_stays_locked_is_refused_after_a_time(path: Path) -> None:
    opened(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(JournalError, match="database is locked"):
        Database.open(journal_location(str(path)), busy_s=0.1)

    other.close()


def test_a_reader_does_not_block_a_writer(path: Path) -> None:
    one, other = opened(path), opened(path)

    with one.reading() as seen:
        before = seen.query("SELECT count(*) FROM journal")
        with other.writing() as connection:
            connection.execute("INSERT INTO journal (name, value) VALUES ('more', '1')")
        assert seen.query("SELECT count(*) FROM journal") == before

    one.close()
    other.close()


def test_processes_that_create_the_same_journal_at_once_create_one(path: Path) -> None:
    code = (
        "import sys; from fleet.journal.journal import Journal\n"
        "sys.stdin.read(1)\n"
        "with Journal.open(sys.argv[1]) as journal: print(journal.id)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]

    for process in started:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    ids = {process.communicate(timeout=60)[0] for process in started}

    assert [process.returncode for process in started] == [0] * 4
    assert len(ids) == 1
