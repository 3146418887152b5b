"""Options before and after the command's name, and from the environment."""

import json
from pathlib import Path

import pytest

from fleet import cli
from tests.support.shell import HOSTS, Shell


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
