"""`fleet show`: one rollout from the journal, for people and as events."""

import json
from dataclasses import replace

from syrupy.assertion import SnapshotAssertion

from fleet.journal.journal import Journal
from fleet.onhost.protocol import Ask
from fleet.rollout.host_status import HostStatus, Progress
from fleet.rollout.initial_events import initial_events
from fleet.rollout.rollout_status import RolloutStatus
from tests.support.pretend.visits import AT, NEW, WENT_BACK
from tests.support.shell import QUICK, ROLLOUT, Shell


def test_a_rollout_is_shown_from_beginning_to_end(shell: Shell, snapshot: SnapshotAssertion) -> None:
    shell.fleet.outcomes["web-03", Ask.UPGRADE].append(WENT_BACK)
    shell(
        "upgrade", NEW, "-y", *QUICK, "--commit", "never", "--max-failures", "1", "--allow", "quic", "--rehearse", "off"
    )

    assert shell("show") == 0
    assert shell.out.replace(str(shell.inventory), "hosts.yaml") == snapshot
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


def test_a_rollout_has_its_own_hosts_in_every_run(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never", "-l", "web-01:web-02")
    shell.fleet.off = {"web-03"}
    shell("commit", "-y")

    assert shell("show", "--json") == 0
    document = json.loads(shell.out)
    assert document["hosts"] == ["web-01", "web-02"]
    assert [run["hosts"] for run in document["runs"]] == [2, 2]
    assert shell("show") == 0
    assert "web-03" not in shell.out


def test_a_run_of_an_older_fleet_is_shown_without_the_hosts_that_were_never_in_the_rollout(shell: Shell) -> None:
    """Its commit looked at every selected host, and ended 4 because of a dead one."""
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never", "-l", "web-01")
    hosts = {name: HostStatus(name, 1, Progress.BEGUN) for name in ("web-01", "web-04")}
    start = RolloutStatus(ROLLOUT, hosts, (("web-01", "web-04"),))
    with Journal.open(str(shell.journal)) as journal:
        for event in initial_events(start, AT, data={"command": "commit"}):
            journal.append("older", event)

    assert shell("show") == 0
    tables = [line for line in shell.out.splitlines() if line.startswith("web-0")]
    assert [line.split()[0] for line in tables] == ["web-01", "web-01"]
    assert shell("show", "--json") == 0
    assert json.loads(shell.out)["hosts"] == ["web-01"]


def test_the_command_that_was_typed_is_in_the_journal(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK)

    shell("show", "--output", "jsonl")
    typed = json.loads(shell.out.splitlines()[0])["command_line"]

    assert (typed["command"], typed["arguments"]) == ("upgrade", [NEW])
    assert ["bake_s", "--bake", "0"] in typed["options"]
