import ast
import re
import string
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import fleet.onhost
from fleet.onhost.protocol import Severity
from fleet.onhost.reasons.catalogue import EVERY, PREFLIGHT, REASONS, few, finding, judged, overridable, spelled
from fleet.onhost.reasons.reason import Kind, Reason

FOLDER = Path(fleet.onhost.__file__).parent
TABLES = FOLDER / "reasons"
SOURCES = {
    path.relative_to(FOLDER).as_posix(): path.read_text()
    for path in sorted(FOLDER.rglob("*.py"))
    if path.parent != TABLES or path.stem == "catalogue"
}
EVERY_REASON = pytest.mark.parametrize("reason", EVERY, ids=lambda reason: reason.word)

# Who names a word, and where among the arguments it stands; the rest of the arguments are its facts.
TAKES_FACTS = {"finding": 0, "StepFailed": 0, "StepRefused": 0, "TurnedBack": 0, "warn": 0, "ended": 1}


class Named(NamedTuple):
    """A place in the code that names a word, and the facts it gives; `None` when they come as a dictionary."""

    where: str
    how: str
    word: str
    facts: frozenset[str] | None


def named() -> Iterator[Named]:
    """Every place in the step script where a literal word is raised, warned of, found or ended with."""
    for name, text in SOURCES.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                yield from _named(name, node)


def _named(name: str, call: ast.Call) -> Iterator[Named]:
    how = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    position = TAKES_FACTS.get(how)
    if position is None or len(call.args) <= position:
        return
    given = [keyword.arg for keyword in call.keywords]
    facts = None if None in given else frozenset(str(one) for one in given)
    for word in _literals(call.args[position]):
        yield Named(f"{name}:{call.lineno}", how, word, facts)


def _literals(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    if isinstance(node, ast.IfExp):
        yield from (*_literals(node.body), *_literals(node.orelse))


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def needed(reason: Reason) -> set[str]:
    return fields(reason.meaning) | fields(reason.remedy)


@EVERY_REASON
def test_every_reason_says_what_is_so_and_what_to_do_now(reason: Reason) -> None:
    if reason in PREFLIGHT:
        assert reason.meaning.endswith((".", "}", "{line}"))
    assert reason.meaning
    assert reason.remedy
    assert re.fullmatch(r"[a-z][a-z0-9_]*", reason.word)


def test_no_word_has_two_meanings() -> None:
    assert sorted(word for word, count in Counter(reason.word for reason in EVERY).items() if count > 1) == []
    meanings = Counter(reason.meaning for reason in EVERY if needed(reason) == set())
    assert [meaning for meaning, count in meanings.items() if count > 1] == []


@EVERY_REASON
def test_every_reason_can_be_filled_in_and_leaves_no_brace(reason: Reason) -> None:
    facts = {name: Anything(f"<{name}>") for name in needed(reason)}

    found = finding(reason.word, **facts)

    assert "{" not in found.message + found.remedy
    assert (found.reason, found.severity, found.overridable) == (reason.word, reason.severity, reason.overridable)


class Anything(str):
    """A fact of any kind: a number where the template wants one."""

    def __format__(self, spec: str) -> str:
        return str(self)


def test_every_word_that_the_step_script_names_stands_in_the_table() -> None:
    assert [one for one in named() if one.word not in REASONS] == []


def test_every_place_that_names_a_word_gives_just_its_facts() -> None:
    """A fact that is missing would be found out only when the trouble is there."""
    wrong = [
        (one, needed(REASONS[one.word]))
        for one in named()
        if one.facts is not None and one.word in REASONS and one.facts != needed(REASONS[one.word])
    ]

    assert wrong == []


@EVERY_REASON
def test_every_reason_is_one_that_the_code_can_give(reason: Reason) -> None:
    assert f'"{reason.word}"' in "".join(SOURCES.values())


def test_what_is_said_as_a_warning_is_one_and_what_ends_a_visit_is_none() -> None:
    warned = {one.word for one in named() if one.how == "warn"}
    notes = {reason.word for reason in EVERY if reason.kind is Kind.NOTE}

    assert [word for word in warned if REASONS[word].severity is not Severity.WARNING] == []
    assert notes <= {one.word for one in named() if one.how == "ended"}


def test_a_refusal_that_may_be_passed_says_how() -> None:
    (found,) = judged((finding("quic", listener="0.0.0.0:443 udp"),), ())

    assert found.severity is Severity.REFUSAL
    assert found.remedy.endswith("Or take the risk: --allow quic.")


@pytest.mark.parametrize("written", ["pending-config", "pending_config"])
def test_an_allowed_refusal_is_a_warning_that_says_so(written: str) -> None:
    (found,) = judged((finding("pending_config", loaded="-", files="-", program="-", pid=1),), (written,))

    assert found.severity is Severity.WARNING
    assert found.message.endswith("(Allowed by --allow pending-config.)")


def test_what_is_not_overridable_stays_a_refusal_whatever_is_allowed() -> None:
    (found,) = judged((finding("pid_1"),), ("pid_1",))

    assert found.severity is Severity.REFUSAL
    assert "--allow" not in found.remedy


def test_only_refusals_are_overridable() -> None:
    words = {spelled(reason.word) for reason in REASONS.values() if reason.overridable}

    assert set(overridable()) == words
    assert all(reason.severity is Severity.REFUSAL for reason in REASONS.values() if reason.overridable)


def test_of_many_findings_of_one_word_a_few_are_said_and_how_many_more_there_are() -> None:
    many = [finding("listener_added", listener=f"127.0.0.1:{port}") for port in range(1000)]
    other = finding("quic", listener="x")

    said = few((*many[:500], other, *many[500:]))

    assert said[:19] == tuple(many[:19])
    assert said[19].message == f"{many[19].message} (And 980 more of these.)"
    assert said[20:] == (other,)
