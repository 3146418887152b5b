"""The nearest word that exists, for messages about one that does not."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """` (did you mean …?)`, with a space before it, or nothing where no known word is near (1 is the same word)."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f" (did you mean {near[0]}?)" if near else ""
