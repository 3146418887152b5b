"""A reason: a word for scripts, a message that says what is so, and a remedy that says what to type or edit.

A message and a remedy never name the host: the host does not know its name in the inventory, so the controller prints
it in front. Messages are whole sentences and put the fact first; commands in a remedy stand in backticks.
"""

from enum import Enum
from typing import NamedTuple

from fleet.onhost.protocol import Severity

LEAVE_OUT = "or leave the host out with `--limit '!HOST'`"
RESUME = "then continue with `fleet resume`."
SEE_STATUS = "See where the host is now: `fleet status`."


class Kind(Enum):
    """What a reason does to the visit: see `fleet/reference/render.py` for the words in the documentation."""

    REFUSAL = "refusal"
    FAILURE = "failure"
    WARNING = "warning"
    NOTE = "note"


class Reason(NamedTuple):
    """One word of the catalogue. `meaning` and `remedy` are templates for `str.format` with the facts of the host."""

    word: str
    kind: Kind
    overridable: bool
    meaning: str
    remedy: str

    @property
    def severity(self) -> Severity:
        """The severity of a finding with this word."""
        return Severity.REFUSAL if self.kind in (Kind.REFUSAL, Kind.FAILURE) else Severity.WARNING


def refusal(word: str, meaning: str, remedy: str) -> Reason:
    return Reason(word, Kind.REFUSAL, False, meaning, remedy)


def overridable(word: str, meaning: str, remedy: str) -> Reason:
    """A refusal that `--allow WORD` turns into a warning."""
    return Reason(word, Kind.REFUSAL, True, meaning, remedy)


def failure(word: str, meaning: str, remedy: str) -> Reason:
    return Reason(word, Kind.FAILURE, False, meaning, remedy)


def warning(word: str, meaning: str, remedy: str) -> Reason:
    return Reason(word, Kind.WARNING, False, meaning, remedy)


def note(word: str, meaning: str, remedy: str) -> Reason:
    return Reason(word, Kind.NOTE, False, meaning, remedy)
