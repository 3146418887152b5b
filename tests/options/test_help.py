"""`--help`: its groups and their order, a form that every command keeps, and a width that fits a terminal."""

import inspect
import re

import pytest
import rich_click as click

from fleet import cli
from fleet.lab.cli import lab
from fleet.options.help_layout import CONNECTION, HOSTS, LOCKS, OUTPUT, ROLLOUT, SAFETY
from fleet.options.lazy_group import COMMAND_GROUPS, load
from fleet.options.lazy_group import COMMANDS as DECLARED

OWN = {name: load(name) for name in DECLARED if name != "lab"}
COMMANDS = {**OWN, **{f"lab {name}": command for name, command in lab.commands.items()}}
MOST_IMPORTANT = [
    *("inventory", "limit", "batches", "bake_s", "commit", "settle_s", "max_failures", "on_failure", "dry_run", "yes")
]


def options(command: click.Command) -> list[click.RichOption]:
    return [each for each in command.params if isinstance(each, click.RichOption)]


def help_of(
    words: tuple[str, ...], width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.run((*words, "--help")) == 0
    return capsys.readouterr().out


def test_the_ten_most_important_options_of_upgrade_come_first() -> None:
    assert [each.name for each in options(COMMANDS["upgrade"])][:10] == MOST_IMPORTANT


@pytest.mark.parametrize("command", OWN.values(), ids=OWN)
def test_every_command_has_its_groups_in_the_same_order(command: click.Command) -> None:
    panels = list(dict.fromkeys(each.panel for each in options(command)))

    assert panels == [each for each in (HOSTS, ROLLOUT, SAFETY, CONNECTION, LOCKS, OUTPUT) if each in panels]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_help_begins_with_one_sentence_and_ends_with_an_example(command: click.Command) -> None:
    first, *_, example = inspect.cleandoc(command.help or "").strip().split("\n\n")

    assert re.fullmatch(r"[A-Z][^.]*[.?]", first.replace("\n", " ")), first
    assert re.match("\b\nExamples?:\n  (?:sudo )?fleet ", example), example


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_option_is_explained_in_sentences(command: click.Command) -> None:
    for each in options(command):
        assert re.match(r"(?:-?[A-Z]|fleet).*[.]$", each.help or "", re.S), f"{each.name}: {each.help}"


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("width", [80, 120])
def test_no_line_of_help_is_wider_than_the_terminal(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = help_of(tuple(name.split()), width, monkeypatch, capsys)

    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    for each in options(COMMANDS[name]):
        assert max(each.opts, key=len) in shown
        assert str(each.envvar) in " ".join(shown.split())


def test_help_says_what_scp_means_today(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(("upgrade",), 80, monkeypatch, capsys)

    assert "sftp (which scp itself uses today)" in " ".join(shown.split())


def test_every_command_is_listed_in_one_group() -> None:
    listed = [name for names in COMMAND_GROUPS.values() for name in names]

    assert sorted(listed) == sorted(DECLARED)


@pytest.mark.parametrize("name", DECLARED)
def test_the_sentence_in_the_list_is_the_first_of_the_command_s_own_help(name: str) -> None:
    first = inspect.cleandoc(load(name).help or "").split("\n\n")[0]

    assert DECLARED[name].sentence == " ".join(first.split())


def test_the_help_of_fleet_lists_every_command_in_its_group(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = help_of((), 80, monkeypatch, capsys).splitlines()

    for title, names in COMMAND_GROUPS.items():
        start = next(number for number, line in enumerate(lines) if line.rstrip() == f"{title}:")
        shown = [line.split()[0] for line in lines[start + 1 :] if line[:3].strip()]
        assert [name for name in shown if name in names] == names
