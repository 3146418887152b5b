"""Commit and rollback on all hosts of a rollout."""

import io
import json
import sqlite3
import sys
from pathlib import Path

import pytest

from fleet.onhost.protocol import Ask, Outcome, Phase
from fleet.task import HostOutcome
from tests.support.pretend.visits import LOST_BEFORE, NEW, REFUSED, UNREACHABLE
from tests.support.shell import QUICK, ROLLOUT, Elsewhere, Shell, an_inventory


def test_held_hosts_are_committed_and_then_rolled_back(shell: Shell) -> None:
    assert shell("upgrade", NEW, "-y", *QUICK, "--commit", "never") == 0
    assert [host.phase() for host in shell.fleet.hosts.values()] == [Phase.TRIAL] * 4

    assert shell("commit", "-y") == 0
    assert [host.phase() for host in shell.fleet.hosts.values()] == [Phase.NEW] * 4

    assert shell("rollback", ROLLOUT[:8], "-y") == 0
    assert [host.phase() for host in shell.fleet.hosts.values()] == [Phase.OLD] * 4
    assert ROLLOUT in shell.err


def test_commit_and_rollback_do_nothing_if_no_host_has_a_record(shell: Shell) -> None:
    for command in ("commit", "rollback"):
        assert shell(command, "-y") == 0
        assert "nothing to do" in shell.err

    assert {ask for _, ask in shell.fleet.calls} == {Ask.LOOK}


def test_a_rollback_with_a_dead_host_rolls_the_others_back_and_ends_4(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK)
    for ask in (Ask.LOOK, Ask.ROLLBACK):
        shell.fleet.outcomes["web-02", ask].extend([UNREACHABLE] * 99)

    assert shell("rollback", "-y") == 4

    phases = {name: host.phase() for name, host in shell.fleet.hosts.items()}
    assert phases == {"web-01": Phase.OLD, "web-02": Phase.NEW, "web-03": Phase.OLD, "web-04": Phase.OLD}
    assert "web-02" in shell.err


# The rollout's own hosts


def held(shell: Shell, *words: str) -> None:
    """A rollout whose hosts are held."""
    assert shell("upgrade", NEW, "-y", *QUICK, "--commit", "never", *words) == 0
    shell.fleet.calls.clear()


def phases(shell: Shell) -> str:
    return " ".join(host.phase().value for host in shell.fleet.hosts.values())


def elsewhere(tmp_path: Path) -> tuple[str, str]:
    """Another laptop: a journal that knows nothing."""
    return "--journal", str(tmp_path / "bobs.db")


def line_with(shell: Shell, words: str) -> str:
    """The one line to type that has these words."""
    (line,) = [line for line in shell.lines if words in line]
    return line


@pytest.mark.parametrize("rollout", [(), (ROLLOUT,)])
def test_a_dead_host_that_was_left_out_is_a_note_and_no_exit_code(shell: Shell, rollout: tuple[str, ...]) -> None:
    held(shell, "-l", "web-01")
    shell.fleet.off = {"web-02"}

    for command, phase in (("commit", "NEW"), ("commit", "NEW"), ("rollback", "OLD"), ("rollback", "OLD")):
        assert shell(command, *rollout, "-y") == 0, shell.err
        assert phases(shell) == f"{phase} OLD OLD OLD"
        assert f"No answer from web-02: never in rollout {ROLLOUT}, and left alone." in shell.err
        assert "web-02" not in shell.out
    assert {name for name, ask in shell.fleet.calls if ask is not Ask.LOOK} == {"web-01"}


@pytest.mark.parametrize("command", ["commit", "rollback"])
def test_a_dead_host_of_the_rollout_still_needs_a_person(shell: Shell, command: str) -> None:
    held(shell, "-l", "web-01:web-02")
    shell.fleet.off = {"web-02", "web-03"}

    assert shell(command, "-y") == 4

    assert "web-02  " in shell.out
    assert "web-03" not in shell.out


@pytest.mark.parametrize("command", ["commit", "rollback"])
def test_a_dead_host_of_the_plan_that_was_never_begun_is_no_exit_code(shell: Shell, command: str) -> None:
    """The rollout halted at its second batch."""
    shell.fleet.outcomes["web-02", Ask.UPGRADE].append(REFUSED)
    assert shell("upgrade", NEW, "-y", *QUICK, "--batches", "1,1,2", "--on-failure", "halt") == 3
    shell.fleet.off = {"web-04"}

    assert shell(command, "-y") == 0, shell.err

    assert f"No answer from web-04: never begun by rollout {ROLLOUT}, and left alone." in shell.err
    assert phases(shell) == ("NEW OLD OLD OLD" if command == "commit" else "OLD OLD OLD OLD")


def test_a_dead_host_may_have_been_begun_if_its_visit_had_no_answer(shell: Shell) -> None:
    shell.fleet.outcomes["web-02", Ask.UPGRADE].append(LOST_BEFORE)
    shell.fleet.outcomes["web-02", Ask.LOOK].extend([UNREACHABLE] * 99)
    shell("upgrade", NEW, "-y", *QUICK, "--on-failure", "halt")
    shell.fleet.off = {"web-02"}

    assert shell("rollback", "-y") == 4

    assert phases(shell).startswith("OLD")


@pytest.mark.parametrize("command", ["commit", "rollback"])
def test_a_host_that_runs_no_nginx_and_was_never_in_the_rollout_is_left_alone(
    shell: Shell, command: str, tmp_path: Path
) -> None:
    """With a journal that knows the rollout, and without."""
    held(shell, "-l", "web-01")
    no_nginx = HostOutcome("", Outcome.REFUSED, "no_master", "No nginx runs here.", "Start it.")
    shell.fleet.outcomes["web-02", Ask.ROLLBACK].append(no_nginx)

    assert shell(command, "-y", *elsewhere(tmp_path), *(("--force",) if command == "commit" else ())) == 0, shell.err
    assert shell(command, "-y") == 0, shell.err


def test_the_question_counts_the_rollout_s_own_hosts(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    held(shell, "-l", "web-0[1:3]")
    shell.terminal = True
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n" * 4))

    for words, count in (
        (("commit",), "3 hosts"),
        (("rollback",), "3 hosts"),
        (("commit", "-l", "web-02"), "1 host"),
        (("rollback", *elsewhere(tmp_path)), "3 hosts"),
    ):
        assert shell(*words) == 2
        assert f"rollout {ROLLOUT} on {count}? [y/N]" in shell.err


# A selection


def test_a_selection_narrows_the_rollout_and_says_what_stays(shell: Shell) -> None:
    held(shell, "-l", "web-0[1:3]")
    shell.fleet.off = {"web-03"}

    assert shell("commit", "-y", "-l", "web-01:web-04") == 0, shell.err

    assert phases(shell) == "NEW TRIAL TRIAL OLD"
    assert "Not selected, and left as they are: web-02, web-03." in shell.err
    assert f"Never in rollout {ROLLOUT}, and left alone: web-04." in shell.err


@pytest.mark.parametrize("command", ["commit", "rollback"])
def test_a_selection_without_a_host_of_the_rollout_is_refused(shell: Shell, command: str) -> None:
    held(shell, "-l", "web-01")

    assert shell(command, ROLLOUT, "-y", "-l", "web-02") == 2

    assert f"None of the selected hosts is in rollout {ROLLOUT}." in shell.err
    assert shell.type(line_with(shell, "fleet show")) == 0
    assert "web-01" in shell.out


def test_a_selection_that_no_rollout_has_touched_has_nothing_to_do(shell: Shell) -> None:
    held(shell, "-l", "web-01")

    assert shell("commit", "-y", "-l", "web-02") == 0

    assert "No selected host has a record of a rollout." in shell.err


def test_a_rollout_that_was_refused_in_preflight_has_nothing_to_commit(shell: Shell) -> None:
    shell.fleet.off = {"web-03"}
    assert shell("upgrade", NEW, "-y", *QUICK) == 2

    assert shell("commit", ROLLOUT, "-y") == 0, shell.err

    assert f"Nothing to commit: rollout {ROLLOUT} has begun no host." in shell.err


def test_a_changed_key_of_a_host_outside_the_rollout_is_still_an_alarm(shell: Shell) -> None:
    held(shell, "-l", "web-01")
    changed = HostOutcome("", Outcome.UNREACHABLE, "host_key_changed", "The host key has changed.", "Ask its owner.")
    shell.fleet.outcomes["web-02", Ask.LOOK].append(changed)

    assert shell("commit", "-y") == 0, shell.err

    assert "web-02: The host key has changed. Ask its owner." in shell.err


# An inventory that changed


def test_a_commit_names_a_host_that_the_inventory_lost_and_commits_none(shell: Shell) -> None:
    held(shell)
    an_inventory(shell.inventory, 3)

    assert shell("commit", "-y") == 2
    assert f"Rollout {ROLLOUT} has hosts that the inventory does not have: web-04." in shell.err
    assert phases(shell) == "TRIAL TRIAL TRIAL TRIAL"

    assert shell.type(line_with(shell, "-l all")) == 0
    assert phases(shell) == "NEW NEW NEW TRIAL"


def test_a_rollback_rolls_the_others_back_and_names_the_host_that_the_inventory_lost(shell: Shell) -> None:
    held(shell)
    an_inventory(shell.inventory, 3)

    assert shell("rollback", "-y") == 4
    assert "web-04: It is in the rollout, but not in the inventory." in shell.out
    assert "Not rolled back: web-04" in shell.err
    assert phases(shell) == "OLD OLD OLD TRIAL"
    with_lost = shell("show", "--json")
    counts = json.loads(shell.out)["runs"][-1]["events"][-1]["counts"]
    assert (with_lost, counts["unreachable"], counts["hosts"]) == (0, 1, 4)

    shell("rollback", "-y")
    assert shell.type(line_with(shell, "-l all")) == 0


def test_a_host_that_the_inventory_lost_is_not_missed_where_nothing_is_to_do(shell: Shell) -> None:
    held(shell)
    assert shell("rollback", "-y", "-l", "web-04") == 0
    an_inventory(shell.inventory, 3)

    assert shell("commit", "-y") == 0, shell.err
    assert shell("rollback", "-y") == 0, shell.err


def test_a_host_with_a_new_name_is_found_by_its_record(shell: Shell) -> None:
    held(shell)
    shell.inventory.write_text(shell.inventory.read_text().replace("web-04", "edge-1"))
    shell.fleet.hosts["edge-1"] = shell.fleet.hosts.pop("web-04")

    assert shell("commit", "-y") == 0, shell.err
    assert phases(shell) == "NEW NEW NEW NEW"


def test_a_second_name_of_a_host_is_no_second_host(shell: Shell) -> None:
    held(shell, "-l", "web-01:web-02")
    an_inventory(shell.inventory, 5)
    shell.fleet.hosts["web-05"] = shell.fleet.hosts["web-01"]

    assert shell("rollback", "-y") == 0, shell.err

    assert "web-05 is the same nginx as web-01, which is visited." in shell.err
    assert sorted(shell.fleet.asked(Ask.ROLLBACK)) == ["web-01", "web-02"]


# Another journal


@pytest.mark.parametrize("command", ["commit", "rollback"])
def test_without_the_journal_a_dead_host_may_be_in_the_rollout_and_the_line_that_leaves_it_out_is_printed(
    shell: Shell, command: str, tmp_path: Path
) -> None:
    held(shell, "-l", "web-01")
    shell.fleet.off = {"web-02"}
    force = ("--force",) if command == "commit" else ()

    assert shell(command, "-y", *elsewhere(tmp_path), *force) == 4
    assert "No journal here shows whether it is in the rollout." in shell.out
    assert "web-03" not in shell.out or command == "rollback"

    assert shell.type(line_with(shell, "-l '!web-02'")) == 0, shell.err
    assert phases(shell) == ("NEW OLD OLD OLD" if command == "commit" else "OLD OLD OLD OLD")


def extended_elsewhere(shell: Shell, tmp_path: Path) -> None:
    """alice upgraded web-01; bob, on another laptop, resumed her rollout with web-02 and web-03."""
    held(shell, "-l", "web-01")
    words = ("--force", "--commit", "never", "--bake", "0", "-l", "web-0[1:3]")
    assert shell("resume", "-y", *elsewhere(tmp_path), *words) == 0, shell.err
    assert phases(shell) == "TRIAL TRIAL TRIAL OLD"


def test_a_host_that_another_laptop_added_is_rolled_back_with_the_others(shell: Shell, tmp_path: Path) -> None:
    extended_elsewhere(shell, tmp_path)

    assert shell("rollback", "-y") == 0, shell.err

    assert phases(shell) == "OLD OLD OLD OLD"
    assert f"In rollout {ROLLOUT} by their own records, and not in this journal's plan: web-02, web-03." in shell.err


@pytest.mark.parametrize("off", [{"web-03"}, {"web-02", "web-03"}])
def test_a_dead_host_may_be_one_that_another_laptop_added(shell: Shell, tmp_path: Path, off: set[str]) -> None:
    """web-02 says that hosts were added; if it is dead, too, the epoch of web-01 shows bob's run."""
    extended_elsewhere(shell, tmp_path)
    shell.fleet.off = off

    assert shell("rollback", "-y") == 4

    assert all(f"{name}: No answer" in shell.out for name in off)


def test_after_a_rollback_by_another_laptop_a_dead_host_is_in_doubt_once(shell: Shell, tmp_path: Path) -> None:
    """The epoch of web-01 shows that another laptop was at work, and not what it did; this journal knows it then."""
    held(shell, "-l", "web-01")
    assert shell("rollback", "-y", *elsewhere(tmp_path)) == 0
    shell.fleet.off = {"web-02"}

    assert shell("rollback", ROLLOUT, "-y") == 4
    assert shell("rollback", ROLLOUT, "-y") == 0, shell.err


def test_a_journal_that_can_not_be_read_does_not_stop_a_rollback(shell: Shell) -> None:
    held(shell)
    with sqlite3.connect(shell.journal) as database:
        database.execute("update events set body = '{}'")

    assert shell("rollback", "-y") == 0, shell.err

    assert "The rollback continues from the hosts' own records." in shell.err
    assert phases(shell) == "OLD OLD OLD OLD"


# Lines to type


@pytest.mark.parametrize("command", ["commit", "rollback"])
def test_the_line_that_confirms_can_be_typed(shell: Shell, command: str) -> None:
    held(shell)

    assert shell(command, "-l", "web-01") == 2
    assert shell.type(line_with(shell, f"fleet {command} {ROLLOUT}")) == 0

    assert phases(shell).endswith("TRIAL TRIAL TRIAL")


def test_the_lock_of_the_journal_is_passed_by_the_line_that_is_printed(shell: Shell) -> None:
    held(shell)
    with Elsewhere(shell):
        assert shell("commit", "-y") == 5
        (line,) = [line for line in shell.lines if line.startswith("fleet commit") and line.endswith("--force")]
        assert shell.type(line) == 0


# Hosts that fleet can't handle

WINDOWS = "    win-01: {ansible_connection: winrm}\n"


@pytest.mark.parametrize("command", ["commit", "rollback", "resume"])
def test_a_host_that_fleet_can_not_handle_and_that_was_never_in_the_rollout_is_a_note(
    shell: Shell, command: str
) -> None:
    shell.inventory.write_text(shell.inventory.read_text() + WINDOWS)
    held(shell, "-l", "web-01")

    for words in ((), (ROLLOUT,), ("-l", "all")):
        assert shell(command, *words, "-y", *(("--commit", "never") if command == "resume" else ())) == 0, shell.err
        assert "1 host of the inventory can't be handled by fleet: ansible_connection of win-01." in shell.err


@pytest.mark.parametrize("command", ["commit", "rollback"])
def test_a_host_of_the_rollout_that_fleet_can_no_longer_handle_is_refused_with_the_way_out(
    shell: Shell, command: str
) -> None:
    held(shell, "-l", "web-01:web-02")
    text = shell.inventory.read_text()
    shell.inventory.write_text(text.replace("ansible_host: 192.0.2.2", "ansible_connection: winrm") + WINDOWS)

    assert shell(command, "-y") == 2

    assert "ansible_connection" in shell.err
    assert phases(shell).startswith("TRIAL TRIAL")
    assert shell(command, "-y", "-l", "!web-02") == 0, shell.err
