"""A suggestion for a misspelt word, for error messages."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """` (did you mean …?)` with the most similar known word, or an empty string.

    `likeness` is the least similarity, from 0 to 1 (the same word).
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f" (did you mean {near[0]}?)" if near else ""
