"""The journal of a command: what its first event holds, and which run may hold its lock."""

import hashlib
import sqlite3
import sys
from pathlib import Path

import pytest

from fleet.journal.journal import Journal
from fleet.journal.process_identity import Process, this_process
from fleet.onhost.protocol import Ask, Phase
from fleet.rollout.policy import OnFailure, Policy
from fleet.runs.lease_option import LEASE_S
from fleet.task import HostTask
from tests.support.pretend.visits import NEW
from tests.support.shell import QUICK, ROLLOUT, Elsewhere, Shell

Words = tuple[str, ...]


def test_the_first_event_holds_everything_that_resume_needs(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "nginx"
    path.write_bytes(Path(sys.executable).resolve().read_bytes())
    path.chmod(0o755)
    (tmp_path / "names").write_text("web-01\nweb-02\n")

    shell("upgrade", str(path), "-y", *QUICK, "--on-failure", "halt", "--limit", f"@{tmp_path}/names")
    with Journal.open(str(shell.journal)) as journal:
        facts = journal.runs(ROLLOUT)[0].facts

    assert facts["command"] == "upgrade"
    assert facts["operator"] == "alice@desk"
    assert facts["release"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["release_path"] == str(path)
    assert facts["release_bytes"] == path.stat().st_size
    assert facts["batches"] == [["web-01"], ["web-02"]]
    assert facts["inventory"] == [str(shell.inventory)]
    assert facts["limit"] == [f"@{tmp_path}/names"]
    assert Policy.from_plain(facts["policy"]) == Policy(
        bake_s=0.0, parallel=1, on_failure=OnFailure.HALT, lease_s=LEASE_S
    )
    assert Process.from_plain(facts["controller"]) == this_process()


def test_the_first_event_of_a_commit_or_rollback_holds_its_release_and_policy(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    shell("commit", "-y", "--cut")
    shell("rollback", "-y")

    with Journal.open(str(shell.journal)) as journal:
        runs = journal.runs(ROLLOUT)

    assert [run.command for run in runs] == ["upgrade", "commit", "rollback"]
    assert {run.facts["release"] for run in runs} == {NEW}
    assert [Policy.from_plain(run.facts["policy"]).cut for run in runs] == [False, True, False]


def test_commands_that_only_look_write_no_journal(shell: Shell) -> None:
    shell("check", NEW)
    shell("status")
    shell("upgrade", NEW, "--dry-run")

    assert not shell.journal.exists()


@pytest.mark.parametrize("command", [("upgrade", NEW), ("commit",)])
def test_a_run_is_refused_while_another_run_holds_the_lock_and_the_holder_is_named(
    shell: Shell, command: Words
) -> None:
    with Elsewhere(shell) as other:
        assert shell(*command, "-y") == 5
        assert other.owner() == "bob@couch"

    assert "bob@couch (fleet upgrade of rollout 20261123-0900-else, pid 4711 on couch)" in shell.err
    assert "--lock-wait 5m" in shell.err
    assert shell.fleet.calls == []


def test_a_run_may_wait_for_the_lock_and_names_its_holder(shell: Shell) -> None:
    with Elsewhere(shell):
        assert shell("upgrade", NEW, "-y", *QUICK, "--lock-wait", "100ms") == 5

    assert "Waiting up to 0.1 s for the journal's lock, held by bob@couch" in shell.err
    assert shell.fleet.calls == []


def test_a_run_may_take_the_lock_by_force(shell: Shell) -> None:
    with Elsewhere(shell) as other:
        assert shell("upgrade", NEW, "-y", *QUICK, "--force") == 0
        assert other.owner() is None


def test_a_run_releases_the_lock_when_it_ends(shell: Shell) -> None:
    for words in (("upgrade", NEW, "-y", *QUICK, "--commit", "never"), ("commit", "-y"), ("rollback", "-y")):
        assert shell(*words) == 0
        with Journal.open(str(shell.journal)) as journal:
            assert journal.lock("ann", "look").holder() is None


@pytest.mark.parametrize("rollout", [ROLLOUT, "20261123-0900-else"])
def test_a_rollback_never_waits_for_the_lock(shell: Shell, rollout: str) -> None:
    shell("upgrade", NEW, "-y", *QUICK)

    with Elsewhere(shell, rollout) as other:
        assert shell("rollback", "-y") == 0
        assert other.owner() == (None if rollout == ROLLOUT else "bob@couch")

    said = "pid 4711 on couch). The rollback continues without the lock."
    assert (said in shell.err) == (rollout != ROLLOUT)
    with Journal.open(str(shell.journal)) as journal:
        assert [run.result for run in journal.runs(ROLLOUT)] == ["completed", "rolled_back"]


def test_a_journal_that_can_t_be_opened_stops_every_command_but_rollback(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    shell.journal.write_text("notes of mine " * 100)
    before = len(shell.fleet.calls)

    for words in (("upgrade", NEW, "-y"), ("commit", "-y"), ("history",), ("show",)):
        assert shell(*words) == 2
        assert f"The journal {shell.journal} can't be opened: file is not a database" in shell.err
        assert "--journal" in shell.err
    assert len(shell.fleet.calls) == before

    assert shell("rollback", "-y") == 0
    assert "file is not a database. The rollback continues without a journal." in shell.err
    assert [host.phase() for host in shell.fleet.hosts.values()] == [Phase.OLD] * 4


@pytest.mark.parametrize(
    ("ask", "code", "phases"), [(Ask.UPGRADE, 3, {Phase.TRIAL, Phase.OLD}), (Ask.ROLLBACK, 0, {Phase.OLD})]
)
def test_a_journal_that_breaks_in_the_middle_stops_an_upgrade_but_not_a_rollback(
    shell: Shell, ask: Ask, code: int, phases: set[Phase]
) -> None:
    """Another program makes the disk's last page its own, as it were: the first visit of this kind is the last entry."""
    words: Words = ("upgrade", NEW, "-y", *QUICK)
    if ask is Ask.ROLLBACK:
        shell(*words)
        words = ("rollback", "-y", "--parallel", "1")

    def on_visit(task: HostTask) -> None:
        if task.request.ask is ask and not broken:
            broken.append(task.host.name)
            with sqlite3.connect(shell.journal) as other:
                other.execute("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no room'); END")
            other.close()

    broken: list[str] = []
    shell.fleet.on_visit = on_visit

    assert shell(*words) == code

    assert broken == ["web-01"]
    assert {host.phase() for host in shell.fleet.hosts.values()} == phases
    assert f"The journal {shell.journal} can't be written: no room" in shell.err
    assert ("Halted: The journal" in shell.err) == (ask is Ask.UPGRADE)
    assert ("The rollback continues without it" in shell.err) == (ask is Ask.ROLLBACK)
    assert shell("history") == 0
    assert "running" in shell.out  # no end was written, and the process of the run is this one, which lives


def test_the_journal_may_be_named_on_the_command_line(shell: Shell, tmp_path: Path) -> None:
    other = tmp_path / "other" / "j.db"

    assert shell("upgrade", NEW, "-y", *QUICK, "--journal", str(other)) == 0

    assert not shell.journal.exists()
    assert shell("history", "--journal", f"sqlite:///{other}") == 0
    assert ROLLOUT in shell.out
