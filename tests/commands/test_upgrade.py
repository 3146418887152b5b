"""`fleet upgrade`: what it prints, when it asks, and what it refuses."""

import sys
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from fleet.onhost.protocol import Ask, Phase
from tests.support.pretend.visits import NEW, REFUSED, WENT_BACK
from tests.support.shell import QUICK, Shell


def test_an_upgrade_prints_a_line_per_event_and_then_a_table(shell: Shell, snapshot: SnapshotAssertion) -> None:
    code = shell("upgrade", NEW, "-y", *QUICK)

    assert code == 0
    assert shell.out == snapshot(name="stdout")
    assert shell.err == snapshot(name="stderr")
    assert [host.phase() for host in shell.fleet.hosts.values()] == [Phase.NEW] * 4


def test_an_upgrade_that_is_rolled_back_ends_3_and_says_why(shell: Shell, snapshot: SnapshotAssertion) -> None:
    shell.fleet.outcomes["web-02", Ask.UPGRADE].append(WENT_BACK)

    code = shell("upgrade", NEW, "-y", *QUICK)

    assert code == 3
    assert shell.out == snapshot(name="stdout")
    assert shell.err == snapshot(name="stderr")


def test_one_refusal_in_preflight_ends_2_and_changes_nothing(shell: Shell) -> None:
    shell.fleet.outcomes["web-03", Ask.STAGE].append(REFUSED)

    code = shell("upgrade", NEW, "-y", *QUICK)

    assert code == 2
    assert shell.fleet.asked(Ask.UPGRADE) == []
    assert "web-03: stage refused: nginx runs with daemon off. Start it with daemon on." in shell.err


def test_without_a_terminal_and_without_yes_no_host_is_contacted(shell: Shell) -> None:
    for words in (("upgrade", NEW), ("upgrade", NEW, "--output", "jsonl")):
        assert shell(*words) == 2
        assert "-y" in shell.err

    assert shell.fleet.calls == []


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("yes\n", 0), ("n\n", 2), ("\n", 2), ("", 2)])
def test_on_a_terminal_the_operator_is_asked(
    shell: Shell, answer: str, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shell.terminal = True
    (tmp_path / "typed").write_text(answer)

    with (tmp_path / "typed").open() as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        assert shell("upgrade", NEW, *QUICK) == code

    assert "Upgrade 4 hosts? [y/N]" in shell.err
    assert bool(shell.fleet.calls) == (code == 0)


def test_a_dry_run_prints_the_plan_and_contacts_no_host(shell: Shell, snapshot: SnapshotAssertion) -> None:
    words = ("--batches", "1,50%", "--max-failures", "25%", "--on-failure", "halt", "--commit", "never", "--bake", "5m")

    assert shell("upgrade", NEW, "--dry-run", *words) == 0

    assert shell.out == snapshot
    assert shell.fleet.calls == []


@pytest.mark.parametrize("release", [NEW[:8], NEW])
def test_a_dry_run_of_a_kept_release_contacts_no_host(shell: Shell, release: str) -> None:
    assert shell("upgrade", release, "--dry-run") == 0

    assert f"release {release[:8]}" in shell.out
    assert shell.fleet.calls == []


# A host that does not pass preflight


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), False),
        (("--max-failures", "1"), True),
        (("--max-failures", "50%"), True),
        (("--on-failure", "continue"), True),
    ],
)
def test_a_dead_host_is_left_out_by_the_line_that_is_printed(
    shell: Shell, options: tuple[str, ...], said: bool
) -> None:
    shell.fleet.off = {"web-03"}

    assert shell("upgrade", NEW, "-y", *QUICK, *options) == 2
    assert ("does not cover preflight: no host is changed before every host has passed it." in shell.err) is said
    assert shell.fleet.asked(Ask.UPGRADE) == []
    (line,) = [line for line in shell.lines if "-l '!web-03'" in line]

    assert shell.type(line) == 0
    assert [host.phase().value for host in shell.fleet.hosts.values()] == ["NEW", "NEW", "OLD", "NEW"]


@pytest.mark.parametrize(
    "limit", [("-l", "web-0[1:3]"), ("-l", "web*", "-l", "!web-04"), ("-l", "web-01:web-02:web-03")]
)
def test_the_line_keeps_the_selection(shell: Shell, limit: tuple[str, ...]) -> None:
    shell.fleet.off = {"web-03"}
    assert shell("upgrade", NEW, "-y", *QUICK, *limit) == 2
    (line,) = [line for line in shell.lines if "!web-03" in line]

    assert shell.type(line) == 0
    assert [host.phase().value for host in shell.fleet.hosts.values()] == ["NEW", "NEW", "OLD", "OLD"]


def test_the_line_keeps_the_selection_of_the_environment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_LIMIT", "web-01 web-03")
    shell.fleet.off = {"web-03"}
    assert shell("upgrade", NEW, "-y", *QUICK) == 2
    (line,) = [line for line in shell.lines if "!web-03" in line]

    assert shell.type(line) == 0
    assert [host.phase().value for host in shell.fleet.hosts.values()] == ["NEW", "OLD", "OLD", "OLD"]


def test_no_line_leaves_out_every_host(shell: Shell) -> None:
    shell.fleet.off = set(shell.fleet.hosts)

    assert shell("upgrade", NEW, "-y", *QUICK) == 2

    assert "run the same command again." in shell.err
    assert shell.lines == []


def test_a_check_prints_the_line_too(shell: Shell) -> None:
    shell.fleet.off = {"web-03"}
    assert shell("check", NEW) == 2
    (line,) = shell.lines

    assert line.startswith("fleet check ")
    assert shell.type(line) == 0


def test_the_lines_at_the_end_of_an_upgrade_can_be_typed(shell: Shell) -> None:
    assert shell("upgrade", NEW, "-y", *QUICK, "--commit", "never", "-l", "web-01") == 0
    lines = {line.split()[1]: line for line in shell.lines}

    assert shell.type(lines["commit"]) == 0
    assert shell.type(lines["rollback"]) == 0
    assert [host.phase() for host in shell.fleet.hosts.values()] == [Phase.OLD] * 4
