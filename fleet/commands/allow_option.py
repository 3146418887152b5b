"""`--allow REASON`: the refusals that the operator takes the risk of, checked before anything is connected to."""

from fleet.errors import Refused
from fleet.onhost.reasons.catalogue import overridable, spelled


def parse_allow(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words as the hosts print them, each once; `_` may be written for `-`. Raises `Refused`."""
    found = tuple(dict.fromkeys(spelled(word.strip()) for word in words))
    for word in found:
        if word not in overridable():
            raise Refused(
                f"--allow {word}: no refusal that may be overridden has this name.",
                f"Allowed: {', '.join(overridable())}.",
            )
    return found
