"""`fleet show`: one rollout from the journal, for people and as events."""

import json
from dataclasses import replace

from syrupy.assertion import SnapshotAssertion

from fleet.onhost.protocol import Ask
from tests.support.pretend.visits import NEW, WENT_BACK
from tests.support.shell import QUICK, ROLLOUT, Shell


def test_a_rollout_is_shown_from_beginning_to_end(shell: Shell, snapshot: SnapshotAssertion) -> None:
    shell.fleet.outcomes["web-03", Ask.UPGRADE].append(WENT_BACK)
    shell(
        "upgrade", NEW, "-y", *QUICK, "--commit", "never", "--max-failures", "1", "--allow", "quic", "--rehearse", "off"
    )

    assert shell("show") == 0
    assert shell.out == snapshot
    assert shell.err == ""


def test_the_runs_of_a_rollout_are_shown_one_after_the_other(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")
    shell("commit", "-y")
    shell("rollback", "-y")

    assert shell("show", ROLLOUT[:8]) == 0

    places = [shell.out.index(f"fleet {command} by alice@desk") for command in ("upgrade", "commit", "rollback")]
    assert places == sorted(places)


def test_show_prints_the_events_that_the_run_printed(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--output", "jsonl")
    told = shell.out

    assert shell("show", ROLLOUT, "--output", "jsonl") == 0
    assert shell.out == told
    assert shell("show", ROLLOUT, "--json") == 0
    document = json.loads(shell.out)
    assert document["schema"] == "fleet.show/1"
    assert document["runs"][0]["events"] == [json.loads(line) for line in told.splitlines()]


def test_an_unknown_rollout_is_refused_with_those_in_the_journal(shell: Shell) -> None:
    assert shell("show") == 2
    assert "There is no journal" in shell.err
    assert not shell.journal.exists()
    shell("upgrade", NEW, "-y", *QUICK)
    shell("rollback", "-y")
    shell("upgrade", NEW, "-y", *QUICK)

    for wanted, said in (("2025", "holds no rollout 2025"), ("2026", "matches several rollouts")):
        assert shell("show", wanted) == 2
        assert said in shell.err
        assert ROLLOUT in shell.err


def test_no_text_from_the_journal_can_control_the_terminal(shell: Shell) -> None:
    shell.environment = replace(shell.environment, operator=lambda: "eve\x1b[2J[red]\u202e@desk")
    shell("upgrade", NEW, "-y", *QUICK)

    for words in (("history",), ("show",)):
        assert shell(*words) == 0
        assert "eve" in shell.out
        assert "[red]" in shell.out
        assert not {"\x1b", "\u202e"} & set(shell.out)
