import re
import string
from pathlib import Path

import pytest

import fleet.onhost
from fleet.onhost.protocol import Severity
from fleet.onhost.reasons import REASONS, Reason, finding, judged, overridable, spelled

SOURCES = "\n".join(path.read_text() for path in sorted(Path(fleet.onhost.__file__).parent.glob("*.py")))
EVERY = pytest.mark.parametrize("reason", REASONS.values(), ids=lambda reason: reason.word)


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


@EVERY
def test_every_reason_says_what_is_so_and_what_to_do_now(reason: Reason) -> None:
    assert reason.meaning.endswith((".", "}", "{line}"))
    assert reason.remedy
    assert re.fullmatch(r"[a-z][a-z0-9_]*", reason.word)


@EVERY
def test_every_reason_can_be_filled_in_and_leaves_no_brace(reason: Reason) -> None:
    facts = {name: f"<{name}>" for name in fields(reason.meaning) | fields(reason.remedy)}

    found = finding(reason.word, **facts)

    assert "{" not in found.message + found.remedy
    assert (found.reason, found.severity, found.overridable) == (reason.word, reason.severity, reason.overridable)


@EVERY
def test_every_reason_is_one_that_the_code_can_give(reason: Reason) -> None:
    assert SOURCES.count(f'"{reason.word}"') >= 2


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
