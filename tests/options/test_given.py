"""Options before and after the command's name, and from the environment."""

import json
import os
from pathlib import Path

import pytest

from fleet import cli
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
