"""Appending and reading events, and the list of rollouts."""

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.errors import JournalError, Refused
from fleet.events import Event, EventType
from fleet.journal.journal import Journal, new_token
from fleet.journal.process_identity import Process, this_process
from fleet.journal.run_summary import SILENT, RunState, run_state
from fleet.onhost.protocol import Ask
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus, fold
from tests.support.pretend.visits import AT, LOST_AFTER, WENT_BACK, a_fleet
from tests.support.rollout.playing import play

ONE, TWO = "20261123-1000-test", "20261124-0900-more"
ELSEWHERE = Process("another", 4711).to_plain()


def began(rollout: str, **data: object) -> Event:
    return Event(AT, rollout, EventType.ROLLOUT_STARTED, data={"batches": [["web-01"], ["web-02"]], **data})


def ended(rollout: str, result: str = "completed", code: int = 0) -> Event:
    data = {"result": result, "exit_code": code}
    return Event(AT + timedelta(seconds=90), rollout, EventType.ROLLOUT_ENDED, message="Done.", data=data)


def test_the_events_of_a_rollout_come_back_as_they_were_and_fold_to_the_same_status(journal: Journal) -> None:
    fleet = a_fleet(6)
    fleet.outcomes["web-02", Ask.UPGRADE].append(LOST_AFTER)
    fleet.outcomes["web-04", Ask.UPGRADE].append(WENT_BACK)
    _, game = play(fleet, Policy(bake_s=0.0))
    run = new_token()

    for event in game.events:
        journal.append(run, event)

    loaded = journal.events(ONE)
    assert list(loaded) == game.events
    status = RolloutStatus()
    for event in loaded:
        status = fold(status, event)
    assert status == game.status


def test_text_of_any_characters_comes_back_unchanged(journal: Journal) -> None:
    odd = Event(AT, ONE, EventType.NOTE, host="wéb\udcff\x00", message="\x1b[2J\x00 \U0001f600 \ud800")

    journal.append("run", odd)

    assert journal.events(ONE) == (odd,)


def test_events_that_are_appended_together_are_all_written_or_none(journal: Journal) -> None:
    def note(message: str) -> Event:
        return Event(AT, ONE, EventType.NOTE, message=message)

    journal.append_all("run", [note(str(number)) for number in range(300)])
    journal.append_all("run", [])
    with journal._database.writing() as connection:
        connection.execute(
            "CREATE TRIGGER no BEFORE INSERT ON events WHEN NEW.body LIKE '%bad%' "
            "BEGIN SELECT RAISE(ABORT, 'may not write'); END"
        )

    with pytest.raises(JournalError, match="may not write"):
        journal.append_all("run", [note("good"), note("bad")])

    assert [event.message for event in journal.events(ONE)] == [str(number) for number in range(300)]


def test_appended_events_survive_the_death_of_the_writer(path: Path) -> None:
    code = (
        "import sys, os; from fleet.journal.journal import Journal; from fleet.events import *\n"
        "from tests.support.pretend.visits import AT\n"
        "journal = Journal.open(sys.argv[1])\n"
        "for number in range(50): journal.append('run', Event(AT, 'r', EventType.NOTE, message=str(number)))\n"
        "os.kill(os.getpid(), 9)"
    )

    killed = subprocess.run([sys.executable, "-c", code, str(path)])

    assert killed.returncode == -signal.SIGKILL
    with Journal.open(str(path)) as journal:
        assert [event.message for event in journal.events("r")] == [str(number) for number in range(50)]


def test_runs_that_write_at_the_same_time_are_kept_apart(path: Path, journal: Journal) -> None:
    with Journal.open(str(path)) as other:
        journal.append("a", began(ONE, command="upgrade"))
        other.append("b", began(ONE, command="rollback"))
        journal.append("a", Event(AT, ONE, EventType.NOTE, message="of a"))
        other.append("b", ended(ONE, "rolled_back"))

    assert [run.command for run in journal.runs(ONE)] == ["upgrade", "rollback"]
    assert [run.result for run in journal.runs(ONE)] == [None, "rolled_back"]
    assert [event.message for event in journal.events(ONE, "a")] == ["", "of a"]
    assert len(journal.events(ONE)) == 4


def test_the_rollouts_are_listed_with_the_newest_first_and_no_more_than_wanted(journal: Journal) -> None:
    journal.append("a", began(ONE, command="upgrade", operator="ann", release="b" * 64, release_version="1.26.3"))
    journal.append("a", ended(ONE, code=3))
    journal.append("b", began(TWO, command="upgrade"))
    journal.append("c", began(ONE, command="commit"))

    first, second = journal.rollouts()

    assert (first.rollout, second.rollout) == (TWO, ONE)
    assert [run.command for run in second.runs] == ["upgrade", "commit"]
    assert second.fact("release_version") == "1.26.3"
    assert second.fact("nothing") is None
    run = second.first
    assert (run.hosts, run.took_s, run.result, run.exit_code, run.state) == (2, 90.0, "completed", 3, RunState.ENDED)
    assert [each.rollout for each in journal.rollouts(most=1)] == [TWO]


@pytest.mark.parametrize(
    ("controller", "holds", "silent_for", "found"),
    [
        (this_process().to_plain(), False, SILENT * 9, RunState.RUNNING),
        (replace(this_process(), start="1").to_plain(), True, SILENT * 0, RunState.INTERRUPTED),
        (ELSEWHERE, False, SILENT * 0.9, RunState.RUNNING),
        (ELSEWHERE, False, SILENT * 1.1, RunState.INTERRUPTED),
        (ELSEWHERE, True, SILENT * 9, RunState.RUNNING),
        ({}, False, SILENT * 9, RunState.INTERRUPTED),
    ],
    ids=["lives here", "died here", "recent event", "silent", "holds the lock", "unknown process"],
)
def test_the_state_of_a_run_without_an_end(
    controller: dict[str, object], holds: bool, silent_for: timedelta, found: RunState
) -> None:
    event = began(ONE, controller=controller)

    assert run_state(event, AT, None, holds, AT + silent_for, this_process()) is found
    assert run_state(event, AT, ended(ONE), holds, AT + silent_for, this_process()) is RunState.ENDED


def test_a_rollout_is_found_by_a_prefix_of_its_id_and_the_latest_without_one(journal: Journal) -> None:
    journal.append("a", began(ONE))
    journal.append("b", began(TWO))

    assert journal.find() == TWO
    assert journal.find("20261123") == ONE
    assert journal.find(ONE) == ONE


def test_an_id_that_is_a_prefix_of_another_is_found(journal: Journal) -> None:
    journal.append("a", began("one"))
    journal.append("b", began("one-more"))

    assert journal.find("one") == "one"


@pytest.mark.parametrize(("start", "said"), [("2026", "matches several"), ("nonsense", "holds no rollout nonsense")])
def test_an_ambiguous_or_unknown_id_is_refused_with_the_known_ids(journal: Journal, start: str, said: str) -> None:
    journal.append("a", began(ONE))
    journal.append("b", began(TWO))

    with pytest.raises(Refused, match=said) as refused:
        journal.find(start)

    assert ONE in str(refused.value)
    assert TWO in str(refused.value)


def test_an_empty_journal_holds_no_rollout(journal: Journal) -> None:
    assert journal.rollouts() == ()
    with pytest.raises(Refused, match="holds no rollout"):
        journal.find()


def test_a_full_disk_is_a_journal_error_and_earlier_events_stay(path: Path) -> None:
    with Journal.open(str(path)) as journal:
        journal.append("a", began(ONE))
        with journal._database.reading() as connection:
            pages = connection.query("PRAGMA page_count")[0][0]
        with journal._database.reading() as connection:
            connection.execute(f"PRAGMA max_page_count={pages}")

        with pytest.raises(JournalError, match=f"The journal {path} can't be written: database or disk is full"):
            journal.append("a", Event(AT, ONE, EventType.NOTE, message="x" * 100_000))

        assert journal.events(ONE) == (began(ONE),)


def test_a_journal_without_write_permission_is_refused(path: Path) -> None:
    with Journal.open(str(path)) as journal:
        with sqlite3.connect(path) as other:
            other.execute("CREATE TRIGGER no BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'may not write'); END")
        other.close()

        with pytest.raises(JournalError, match="can't be written: may not write") as refused:
            journal.append("a", began(ONE))

    assert "--journal" in refused.value.remedy


def test_an_unknown_event_of_a_newer_fleet_is_refused_by_number(journal: Journal) -> None:
    journal.append("a", began(ONE))
    with journal._database.writing() as connection:
        connection.execute("UPDATE events SET body = replace(body, 'rollout_started', 'rollout_dreamt')")

    with pytest.raises(JournalError, match="Event 1 of the journal can't be read") as refused:
        journal.events(ONE)

    assert "upgrade fleet" in refused.value.remedy
    assert os.path.basename(journal.display_name) == "journal.db"
