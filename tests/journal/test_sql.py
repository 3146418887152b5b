"""Both connections take the same statements. SQLAlchemy opens a file of SQLite here, as it opens a server's database."""

import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.errors import JournalError, LockHeld
from fleet.events import Event, EventType
from fleet.journal.database import Database
from fleet.journal.file_connection import FileConnection
from fleet.journal.journal import Journal
from fleet.journal.location import Location, journal_location
from fleet.journal.schema import MIGRATIONS, TABLES, schema_version, upgrade_schema
from fleet.journal.server_connection import ServerConnection
from fleet.journal.sql import Connection
from tests.support.places import ROOT
from tests.support.pretend.visits import AT


def by_sqlalchemy(path: Path) -> Database:
    path.parent.mkdir(parents=True, exist_ok=True)
    return Database.open(Location(None, str(path), f"sqlite:///{path}"))


def by_the_library(path: Path) -> Database:
    return Database.open(journal_location(str(path)))


def note(message: str) -> Event:
    return Event(AT, "one", EventType.NOTE, message=message)


def made(kind: str, path: Path) -> Connection:
    return FileConnection(path, False, 10.0) if kind == "file" else ServerConnection(f"sqlite:///{path}")


@pytest.mark.parametrize("kind", ["file", "server"])
def test_a_connection_has_transactions_rows_and_numbers(kind: str, tmp_path: Path) -> None:
    connection = made(kind, tmp_path / "x.db")
    with connection.transaction(is_writer=True):
        upgrade_schema(connection)
    add = "INSERT INTO events (rollout, run, at, type, body) VALUES (:rollout, 'r', 'a', 't', :body)"

    with connection.transaction(is_writer=True):
        assert connection.execute(add, [{"rollout": "one", "body": body} for body in "ab"]) == 2
    with suppress(RuntimeError), connection.transaction(is_writer=True):
        connection.execute(add, {"rollout": "one", "body": "c"})
        raise RuntimeError
    with connection.transaction(is_writer=True):
        assert connection.execute("UPDATE events SET host = :host WHERE body = :body", {"host": None, "body": "b"}) == 1

    with connection.transaction(is_writer=False):
        assert connection.query("SELECT seq, body, host FROM events ORDER BY seq") == [(1, "a", None), (2, "b", None)]
        assert connection.query("SELECT body FROM events WHERE seq = :seq", {"seq": 9}) == []
        assert (connection.tables(), schema_version(connection)) == (set(TABLES), len(MIGRATIONS))
    connection.close()


def test_the_same_journal_is_read_and_written_by_both(path: Path) -> None:
    with Journal(by_sqlalchemy(path)) as one:
        one.append_all("run", [note("a"), note("b")])
        lock = one.lock("ann@desk", "upgrade")
        lock.acquire()
        with Journal(by_the_library(path)) as other:
            assert other.id == one.id
            other.append("run", note("c"))
            with pytest.raises(LockHeld, match="ann@desk"):
                other.lock("bob@couch", "upgrade").acquire()
            lock.release()
            other.lock("bob@couch", "upgrade").acquire()
        began = Event(AT + timedelta(1), "two", EventType.ROLLOUT_STARTED, data={"command": "upgrade"})
        one.append("more", began)
        assert [event.message for event in one.events("one", "run", [EventType.NOTE])] == ["a", "b", "c"]
        assert [summary.rollout for summary in one.rollouts(most=1)] == ["two"]
        assert one.find() == "two"


def test_the_trouble_of_a_server_names_the_journal_and_not_the_library(path: Path) -> None:
    with Journal(by_sqlalchemy(path)) as journal:
        with journal._database.writing() as connection:
            connection.execute("CREATE TRIGGER no BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'may not'); END")

        with pytest.raises(JournalError) as refused:
            journal.append("run", note("a"))

    assert refused.value.message == f"The journal {path} can't be written: may not."


def test_a_journal_in_a_file_loads_no_sqlalchemy(path: Path) -> None:
    code = (
        "import sys; from fleet.journal.journal import Journal\n"
        "with Journal.open(sys.argv[1]) as journal: journal.rollouts()\n"
        "print('sqlalchemy' in sys.modules)"
    )

    ran = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)

    assert ran.stdout == "False\n"
