"""What a reason is made of: a word for scripts, and for people what is so and what to do now.

A message says what is so and where, the remedy what to do now; neither names the host, which does not know the name it
goes by in the inventory: the controller puts that before.
"""

from enum import Enum
from typing import NamedTuple

from fleet.onhost.protocol import Severity

LEAVE_OUT = "or leave the host out with --limit"
AGAIN = "then upgrade it again."


class Kind(Enum):
    """What a word mostly does: keep from beginning, end a step badly, warn and go on, or say why a visit ended well."""

    REFUSAL = "refusal"
    FAILURE = "failure"
    WARNING = "warning"
    NOTE = "note"


class Reason(NamedTuple):
    """One word. `meaning` and `remedy` are templates: the facts of the host go into their braces."""

    word: str
    kind: Kind
    overridable: bool
    meaning: str
    remedy: str

    @property
    def severity(self) -> Severity:
        """How a finding with this word is taken."""
        return Severity.REFUSAL if self.kind in (Kind.REFUSAL, Kind.FAILURE) else Severity.WARNING


def refuse(word: str, meaning: str, remedy: str) -> Reason:
    return Reason(word, Kind.REFUSAL, False, meaning, remedy)


def unless_allowed(word: str, meaning: str, remedy: str) -> Reason:
    return Reason(word, Kind.REFUSAL, True, meaning, remedy)


def fail(word: str, meaning: str, remedy: str) -> Reason:
    return Reason(word, Kind.FAILURE, False, meaning, remedy)


def warn(word: str, meaning: str, remedy: str) -> Reason:
    return Reason(word, Kind.WARNING, False, meaning, remedy)


def note(word: str, meaning: str, remedy: str) -> Reason:
    return Reason(word, Kind.NOTE, False, meaning, remedy)
