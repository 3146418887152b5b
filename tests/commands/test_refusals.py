"""Every error that ends a command is a sentence that says the fact, and a sentence that says what to type."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.places import ROOT

RAISED = ("Refused", "ReleaseError", "JournalError", "LockHeld", "HostsDidNotAnswer")
FILES = tuple(sorted((ROOT / "fleet").rglob("*.py")))
OPERATORS_OWN_CHOICE = ("Not confirmed. Nothing was changed.",)
"""Needs no remedy: the operator has just answered no."""


def refusals() -> Iterator[tuple[str, list[str]]]:
    """Where each refusal is, and its message and remedy; `X` stands for what is filled in."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RAISED:
                yield place(path, node), [text_of(each) or "X" for each in node.args]


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


@pytest.mark.parametrize(("where", "texts"), FOUND, ids=[where for where, _ in FOUND])
def test_a_refusal_is_a_sentence_with_a_remedy(where: str, texts: list[str]) -> None:
    assert all(text.startswith(("--", "`")) or text[0].isupper() for text in texts), texts
    assert all(text.endswith((".", "X")) for text in texts), texts
    assert len(texts) == 2 or texts[0] in OPERATORS_OWN_CHOICE
