"""Options before and after the command's name, and from the environment."""

import json
import os
from pathlib import Path

import pytest

from fleet import cli
from fleet.options.given import _without_password
from fleet.typed_command import TypedOption
from tests.support.pretend.visits import NEW
from tests.support.shell import HOSTS, QUICK, Shell


def test_a_repeatable_option_adds_up_before_and_after_the_command(shell: Shell) -> None:
    assert shell("-l", "web-01", "inventory", "-l", "web-03", "--json") == 0

    assert [host["name"] for host in json.loads(shell.out)["hosts"]] == ["web-01", "web-03"]


def test_the_inventory_may_come_from_the_environment_and_the_command_line_beats_it(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, inventory: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(HOSTS + "    edge: {}\n")
    monkeypatch.setenv("FLEET_INVENTORY", str(other))

    assert cli.run(("inventory",), shell.environment) == 0
    assert shell.capsys.readouterr().out.splitlines()[1].startswith("edge")
    assert cli.run(("-i", str(inventory), "inventory"), shell.environment) == 0
    assert shell.capsys.readouterr().out.splitlines()[1].startswith("web-01")
    assert cli.run(("inventory", "-i", str(inventory)), shell.environment) == 0
    assert shell.capsys.readouterr().out.splitlines()[1].startswith("web-01")


def test_a_repeatable_option_takes_several_values_from_the_environment(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, inventory: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(HOSTS + "    edge: {}\n")
    monkeypatch.setenv("FLEET_INVENTORY", f"{inventory}{os.pathsep}{other}")
    monkeypatch.setenv("FLEET_LIMIT", "web-01 edge")

    assert cli.run(("inventory", "--json"), shell.environment) == 0

    hosts = json.loads(shell.capsys.readouterr().out)["hosts"]
    assert sorted(host["name"] for host in hosts) == ["edge", "web-01"]


@pytest.mark.parametrize(("value", "code"), [("1", 0), ("0", 2)])
def test_a_flag_is_set_and_unset_from_the_environment(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, value: str, code: int
) -> None:
    monkeypatch.setenv("FLEET_YES", value)

    assert shell("upgrade", NEW, *QUICK) == code


def next_line(shell: Shell, *words: str) -> str:
    """The line that a command prints when it needs a confirmation."""
    assert cli.run(words, shell.environment) == 2
    shell.out, shell.err = shell.capsys.readouterr()
    (line,) = shell.lines
    return line


def test_a_command_is_printed_as_it_was_typed_before_and_after_its_name(shell: Shell, inventory: Path) -> None:
    words = ("-l", "web-01", "-v", "upgrade", NEW, "-vv", "--bake", "1m", "--limit", "web-02", "--cut")

    line = next_line(shell, "-i", str(inventory), *words)

    assert line == f"fleet upgrade {NEW} -i {inventory} -l web-01 -v -v -v --bake 1m -l web-02 --cut -y"


def test_a_flag_that_was_switched_off_is_printed_so(shell: Shell) -> None:
    shell("upgrade", NEW, "-y", *QUICK, "--commit", "never")

    assert next_line(shell, "resume", "--no-cut").startswith("fleet resume 20261123-1000-test --no-cut -i ")


def test_what_the_environment_gives_is_not_printed(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, inventory: Path
) -> None:
    monkeypatch.setenv("FLEET_INVENTORY", str(inventory))
    monkeypatch.setenv("FLEET_BAKE", "0")
    monkeypatch.setenv("FLEET_LIMIT", "web-01")

    assert next_line(shell, "upgrade", NEW) == f"fleet upgrade {NEW} -y"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:s3cret@db/fleet", "postgresql://me:***@db/fleet"),
        ("postgresql://me:s3/cr@et@db/fleet?password=s3cret", "postgresql://me:***@db/fleet"),
        ("postgresql://me@db/fleet", "postgresql://me@db/fleet"),
        ("sqlite:////var/lib/me/journal.db", "sqlite:////var/lib/me/journal.db"),
    ],
)
def test_no_password_is_printed(url: str, shown: str) -> None:
    assert _without_password(TypedOption("journal", ("--journal", url))).words == ("--journal", shown)
