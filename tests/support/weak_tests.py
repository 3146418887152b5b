"""Finds tests that can't fail, by reading them: they assert nothing, or something that always holds.

It reads syntax alone, so it finds the plain cases. A test that asserts by way of a helper is known by the helper's name.
"""

import ast
from collections.abc import Iterator
from itertools import pairwise

CHECKING = {
    "raises": "pytest: the block raises",
    "wait_until": "tests/support/private_nginx.py: it becomes true in time",
    "wait_until_equal": "tests/lab/test_lease.py: it becomes that value in time",
    "rests": "tests/lab/test_going_back.py: every host is in a resting phase",
    "agrees": "tests/support/lab/operator.py: every host is in that phase and runs that release",
    "assert_same_shape": "tests/reference/test_cli_page.py: two documents have the same keys",
    "connect": "tests/ssh/hostkeys/test_acceptance.py: logs in, or raises `LinkError`",
    "staged": "tests/ssh/test_hosts.py: the release arrived on the host",
    "parse": "ast: raises SyntaxError for what that Python doesn't know",
}
"""Called by a test, each of these fails it when something is not so."""

BY_NOT_RAISING = {
    "tests/onhost/visit/test_pretend_host.py::test_a_pretend_host_answers_as_a_real_one": "each story compares both",
    "tests/onhost/visit/test_pretend_host.py::"
    "test_a_visit_that_breaks_off_leaves_both_alike_and_either_way_on_is_the_same": "`both.look` compares them",
    "tests/ssh/hostkeys/test_certificates.py::test_an_alias_is_the_name_in_the_certificate": "`open` raises `LinkError`",
    "tests/test_house.py::test_every_accepted_skip_names_its_reason": "`allowed_skips` raises ValueError",
}
"""Tests without an assert of their own, and what fails them."""


def weak_tests(name: str, source: str) -> list[str]:
    """`FILE:LINE WEAKNESS` of each finding in a test module."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or not function.name.startswith("test_"):
            continue
        if not _checks(function) and f"{name}::{function.name}" not in BY_NOT_RAISING:
            found.append(f"{name}:{function.lineno} {function.name} asserts nothing")
        found += [f"{name}:{line} {why}" for line, why in _empty_asserts(function)]
    return found


def _checks(function: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Assert) or (isinstance(node, ast.Call) and _called(node) in CHECKING)
        for node in ast.walk(function)
    )


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _empty_asserts(function: ast.AST) -> Iterator[tuple[int, str]]:
    """The line of each assert that always holds, and why."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            parts = node.test.values if isinstance(node.test, ast.BoolOp) else [node.test]
            for part in parts:
                why = _why_empty(part)
                if why:
                    yield node.lineno, why


def _why_empty(test: ast.expr) -> str:
    if isinstance(test, ast.Constant | ast.Tuple | ast.List | ast.Dict | ast.Lambda):
        return "asserts a constant"
    if not isinstance(test, ast.Compare):
        return ""
    sides = [test.left, *test.comparators]
    if all(_is_constant(side) for side in sides):
        return "compares constants"
    if any(_is_same(one, other) for one, other in pairwise(sides)):
        return "compares an expression with itself"
    if isinstance(test.ops[0], ast.In) and _holds_true_and_false(test.comparators[0]):
        return "allows both True and False"
    return ""


def _is_constant(side: ast.expr) -> bool:
    """A literal, or a constant of a module by its name: comparing the two repeats its definition."""
    name = side.attr if isinstance(side, ast.Attribute) else side.id if isinstance(side, ast.Name) else ""
    return isinstance(side, ast.Constant) or name.isupper()


def _is_same(one: ast.expr, other: ast.expr) -> bool:
    """Whether both are the same names and constants; two calls may well differ."""
    has_call = any(isinstance(node, ast.Call) for node in ast.walk(one))
    return not has_call and ast.dump(one) == ast.dump(other)


def _holds_true_and_false(options: ast.expr) -> bool:
    if not isinstance(options, ast.Tuple | ast.List | ast.Set):
        return False
    values = [option.value for option in options.elts if isinstance(option, ast.Constant)]
    return any(value is True for value in values) and any(value is False for value in values)
