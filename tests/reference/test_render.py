"""The page of reasons is what the code gives, and the table of failure modes names words that there are."""

import ast
import re

import pytest

from fleet.events import Note
from fleet.onhost.reasons.catalogue import EVERY, PREFLIGHT, REASONS
from fleet.onhost.reasons.rehearsal import SHARED
from fleet.reference.failure_modes import MODES, FailureMode
from fleet.reference.render import page, table
from fleet.reference.run_reasons import RUN
from fleet.rollout.host_status import KnownReason
from fleet.ssh.reasons import WORDS
from tests.support.places import ROOT

PAGE = ROOT / "docs" / "reasons.md"
SSH = ROOT / "fleet" / "ssh"
BEFORE = {reason.word for reason in PREFLIGHT} | {"release_missing", *SHARED}
EVERY_MODE = pytest.mark.parametrize("mode", MODES, ids=lambda mode: f"{mode.number}")

SAY_A_WORD = ("LinkError", "NoAnswer", "LoginRefused", "HostRefused", "Refusal", "notify", "_notify")
"""What fleet calls with a reason word of the link."""


def test_the_page_agrees_with_the_code() -> None:
    assert PAGE.read_text() == page(), "make it anew: ./dev docs"


def test_every_word_is_on_the_page() -> None:
    text = page()

    assert [reason.word for reason in EVERY if f"\n| `{reason.word}` |" not in text] == []
    assert [word for word in (*WORDS, *RUN) if f"\n| `{word}` |" not in text] == []


def test_the_table_has_all_failure_modes_in_their_order() -> None:
    assert [mode.number for mode in MODES] == list(range(1, 46))


@EVERY_MODE
def test_a_mode_names_words_that_there_are_or_says_why_none_is_needed(mode: FailureMode) -> None:
    assert [word for word in (*mode.before, *mode.after) if word not in REASONS] == []
    assert mode.before or mode.after or mode.reaction.startswith("No word is needed: ")
    assert mode.reaction.endswith(".")


@EVERY_MODE
def test_every_reason_that_finds_a_mode_beforehand_comes_from_preflight(mode: FailureMode) -> None:
    assert set(mode.before) <= BEFORE


def test_the_words_of_the_link_are_those_that_the_code_raises_or_tells() -> None:
    said = {
        node.args[0].value
        for path in SSH.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and called(node) in SAY_A_WORD
        if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    }

    assert said == set(WORDS)


def test_the_reasons_of_the_run_are_those_that_the_controller_gives() -> None:
    """In an event of its own, or for a host that no answer of the host explains."""
    given = {
        word
        for path in (ROOT / "fleet" / "engine.py", *(ROOT / "fleet" / "rollout").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        for reason in (
            *(node.args[1:2] if called(node) in ("explained", "left_alone") else ()),
            *(keyword.value for keyword in node.keywords if keyword.arg == "reason"),
        )
        if (word := reason_word(reason)) is not None
    }
    of_one_host = set(REASONS) | set(WORDS)

    assert set(RUN) == {note.value for note in Note} | (given - of_one_host)


def reason_word(given: ast.expr) -> str | None:
    """The word, given as text or as `KnownReason.NAME.value`; `None` for a variable."""
    if isinstance(given, ast.Constant) and isinstance(given.value, str):
        return given.value
    match given:
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id="KnownReason"), attr=name), attr="value"):
            return KnownReason[name].value
    return None


def called(call: ast.Call) -> str:
    """The last name in the called expression."""
    return getattr(call.func, "attr", "") or getattr(call.func, "id", "")


def test_a_table_keeps_a_bar_in_its_cell() -> None:
    assert table(("a",), [("x|y",)]).splitlines()[-1] == "| x&#124;y |"


def test_every_test_that_the_page_of_traps_names_is_there() -> None:
    page = PAGE.with_name("ssh-traps.md").read_text("utf-8")
    named = re.findall(r"`([\w/]*test_\w+\.py)::(test_\w+)`", page)

    assert len(named) > 50
    gone = [
        f"{file}::{name}"
        for file, name in named
        if f"def {name}(" not in (ROOT / "tests" / "ssh" / file).read_text("utf-8")
    ]
    assert gone == []
