"""A suggestion for a misspelt word, for error messages."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """` (did you mean …?)` with the most similar known word, or an empty string.

    `likeness` is the least similarity, from 0 to 1 (the same word).
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f" (did you mean {near[0]}?)" if near else ""


def one_slip_off(word: str, known: Iterable[str]) -> str:
    """The known word that one letter less, more, other or two swapped make of this one; empty if there is none."""
    return next((right for right in known if right != word and _is_one_slip(word, right)), "")


def _is_one_slip(one: str, other: str) -> bool:
    start = next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    one, other = one[start:], other[start:]
    swapped = one[:2] == other[1::-1] and len(other) > 1 and one[2:] == other[2:]
    return swapped or one[1:] == other[1:] or one[1:] == other or one == other[1:]
