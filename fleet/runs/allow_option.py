"""`--allow REASON`: the refusals whose risk the operator accepts, checked before a host is contacted."""

from fleet.errors import Refused
from fleet.onhost.reasons.catalogue import option_word, overridable_words


def parse_allow(words: tuple[str, ...]) -> tuple[str, ...]:
    """The reasons as the hosts print them, each once. The operator may write `_` for `-`. Raises `Refused`."""
    found = tuple(dict.fromkeys(option_word(word.strip()) for word in words))
    for word in found:
        if word not in overridable_words():
            raise Refused(
                f"--allow {word}: there is no such refusal, or it can't be overridden.",
                f"Allowed: {', '.join(overridable_words())}.",
            )
    return found
