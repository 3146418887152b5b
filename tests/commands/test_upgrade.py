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
