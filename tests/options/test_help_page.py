"""How the page of `--help` is laid out and painted."""

import re

import pytest
import rich_click as click

from fleet.options.help_layout import SAFETY
from fleet.options.help_page import HelpedCommand, is_coloured, page, width_of_terminal
from fleet.options.shared import argument, option


@click.command("go", cls=HelpedCommand, context_settings={"help_option_names": ["-h", "--help"]})
@argument("place", "Where to go.", required=False)
@option(
    "-n",
    "--number",
    env="NUMBER",
    panel=SAFETY,
    type=click.IntRange(1, 9),
    default=2,
    metavar="TIMES",
    help="How many times to go.",
)
@option("--cut/--no-cut", env="CUT", panel=SAFETY, default=None, help="Cut it.")
def go(place: str | None, number: int, cut: bool | None) -> None:
    """Go there and come back, as often as it takes you.

    \b
    Example:
      fleet go    home
    """


PAGE = """\
Usage: go [OPTIONS] [PLACE]

Go there and come back, as often as it
takes you.

Example:
  fleet go    home

Arguments:
  PLACE  Where to go.

Safety:
  -n  --number TIMES  How many times to
                      go. [range: 1<=x<=9]
                      [default: 2] [env:
                      FLEET_NUMBER]
      --cut/--no-cut  Cut it. [env:
                      FLEET_CUT]

Help:
  -h  --help  Show this message and
              exit."""


def shown(width: int, coloured: bool) -> str:
    return "\n".join(page(go.make_context("go", []), width, coloured)).rstrip()


def test_the_page_fits_its_width() -> None:
    assert shown(40, coloured=False) == PAGE
    assert max(map(len, shown(120, coloured=False).splitlines())) > 80


def test_a_terminal_that_is_too_narrow_gets_twenty_columns_of_explanations() -> None:
    margin = len("  -n  --number TIMES  ")

    assert max(map(len, shown(10, coloured=False).splitlines())) <= margin + 20


def test_colours_change_no_letter_and_no_place() -> None:
    painted = shown(80, coloured=True)

    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == shown(80, coloured=False)
    assert "\x1b[1;32m-n\x1b[0m  \x1b[1;36m--number\x1b[0m" in painted
    assert "\x1b" not in shown(80, coloured=False)


@pytest.mark.parametrize(
    ("environ", "on_terminal", "on_pipe"),
    [
        ({}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ],
)
def test_colours_are_for_terminals_and_as_the_environment_says(
    environ: dict[str, str], on_terminal: bool, on_pipe: bool
) -> None:
    assert is_coloured(environ, is_terminal=True) is on_terminal
    assert is_coloured(environ, is_terminal=False) is on_pipe


@pytest.mark.parametrize(("told", "width"), [("100", 100), ("7", 7)])
def test_columns_sets_the_width(told: str, width: int) -> None:
    assert width_of_terminal({"COLUMNS": told}) == width


@pytest.mark.parametrize("told", ["", "0", "wide", "-3"])
def test_a_width_that_is_none_does_not_count(told: str) -> None:
    assert width_of_terminal({"COLUMNS": told}) == width_of_terminal({})
