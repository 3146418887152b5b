"""Every error of the link is a sentence with a remedy that names a command or a file."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from fleet.ssh.reasons import WORDS
from tests.support.places import ROOT

SSH = ROOT / "fleet" / "ssh"
ERRORS = ("LinkError", "NoAnswer", "LoginRefused", "HostRefused", "Refusal")
VAGUE = re.compile(r"\b(try|ask|run it) again\b", re.I)
COINED = re.compile(r"\b(whoever|nobody|somebody|anybody)\b|\b(let|lets) (us|you) in\b", re.I)


class Raised(NamedTuple):
    """An error in the source. `message` and `remedy` are `None` where the code puts them together elsewhere."""

    where: str
    reason: str
    message: str | None
    remedy: str | None
    has_remedy: bool


def raised() -> Iterator[Raised]:
    for path in sorted(SSH.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS and len(node.args) > 1:
                reason = literal(node.args[0]) or ast.unparse(node.args[0])
                remedy = node.args[2] if len(node.args) > 2 else None
                yield Raised(
                    f"{path.relative_to(ROOT)}:{node.lineno}",
                    reason,
                    literal(node.args[1]),
                    None if remedy is None else literal(remedy),
                    remedy is not None,
                )


def literal(node: ast.expr) -> str | None:
    """The text of a string, with `{…}` for each value in it; `None` for any other expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(part) or "{…}" for part in node.values)
    return None


EVERY = tuple(raised())
each_error = pytest.mark.parametrize("error", EVERY, ids=lambda error: f"{error.reason}-{error.where}")


def test_the_errors_are_found() -> None:
    assert {error.reason for error in EVERY} >= {"auth_failed", "host_key_changed", "sudo_password", "timed_out"}
    assert len([error for error in EVERY if error.message is not None]) > 50


@each_error
def test_a_message_is_a_sentence(error: Raised) -> None:
    if error.message is not None:
        assert error.message[0].isupper() or error.message.startswith("{")
        assert error.message.endswith(".")
        assert not COINED.search(error.message)


@each_error
def test_a_remedy_says_what_to_type(error: Raised) -> None:
    assert error.has_remedy
    if error.remedy is not None:
        assert error.remedy
        assert not VAGUE.search(error.remedy)
        assert not COINED.search(error.remedy)


@pytest.mark.parametrize("word", WORDS)
def test_the_meaning_of_a_reason_is_a_sentence(word: str) -> None:
    meaning = WORDS[word]

    assert meaning[0].isupper()
    assert meaning.endswith(".")
    assert not COINED.search(meaning)
