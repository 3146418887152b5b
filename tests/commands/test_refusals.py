"""Every error that ends a command is a sentence that says the fact, and most have another that says what to type."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fleet import errors
from tests.support.places import ROOT

WITH_REMEDY = ("Refused", "ReleaseError", "JournalError", "LockHeld", "HostsDidNotAnswer")
RAISED = (*WITH_REMEDY, "FleetError", "Interrupted", "InventoryError", "TrafficError")
FILES = sorted((ROOT / "fleet").rglob("*.py"))
OPERATORS_OWN_CHOICE = ("Not confirmed. Nothing was changed.",)
"""Needs no remedy: the operator has just answered no."""


class Raised(NamedTuple):
    """An error in the source; `X` stands for what is filled in. `place` is the file and line that its text begins with."""

    where: str
    kind: str
    message: str
    remedy: str
    place: str


def refusals() -> Iterator[Raised]:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RAISED:
                named = {each.arg: text_of(each.value) or "X" for each in node.keywords}
                texts = [text_of(each) or "X" for each in node.args]
                remedy = texts[1] if len(texts) > 1 else named.get("remedy", "")
                yield Raised(place(path, node), node.func.id, texts[0], remedy, named.get("where", ""))


def place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def text_of(node: ast.expr) -> str | None:
    """The text that a string expression gives; `None` for a variable."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=values):
            return "".join(text_of(each) or "X" for each in values)
        case ast.BinOp(left=left, right=right):
            return (text_of(left) or "X") + (text_of(right) or "X")
        case ast.IfExp(body=body):
            return text_of(body)
    return None


FOUND = list(refusals())


def test_there_are_refusals_to_check() -> None:
    assert len(FOUND) >= 100
    assert {error.kind for error in FOUND} == set(RAISED)


def test_every_kind_of_error_is_checked() -> None:
    kinds = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.FleetError)
    }

    assert kinds - set(RAISED) == set()


@pytest.mark.parametrize("error", FOUND, ids=lambda error: error.where)
def test_the_message_is_a_sentence(error: Raised) -> None:
    if error.place:
        assert not error.message[0].isupper() or error.message.startswith("X"), "it goes on after the place and a colon"
    else:
        assert error.message.startswith("--") or error.message[0].isupper()
    assert error.message.endswith((".", "X"))


@pytest.mark.parametrize("error", FOUND, ids=lambda error: error.where)
def test_the_remedy_is_a_sentence(error: Raised) -> None:
    assert error.remedy or error.kind not in WITH_REMEDY or error.message in OPERATORS_OWN_CHOICE
    assert not error.remedy or error.remedy[0].isupper() or error.remedy.startswith("`")
    assert error.remedy.endswith((".", "X")) or not error.remedy
