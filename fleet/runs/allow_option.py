"""`--allow REASON`: the risks that the operator accepts, checked before a host is contacted.

A REASON is the word of a preflight refusal, or `log-line=PATTERN`, which names log lines of the new release.
"""

from fleet.errors import Refused
from fleet.onhost.nginx.log.allowed_lines import ALLOW, why_not_a_pattern
from fleet.onhost.reasons.catalogue import option_word, overridable_words

EXAMPLE = f"--allow {ALLOW}='sched_setaffinity() failed'"


def parse_allow(words: tuple[str, ...]) -> tuple[str, ...]:
    """The reasons as the hosts print them, each once. The operator may write `_` for `-`. Raises `Refused`."""
    return tuple(dict.fromkeys(_parse(word.strip()) for word in words))


def _parse(word: str) -> str:
    reason, is_pattern, pattern = word.partition("=")
    if option_word(reason) == ALLOW:
        return _log_line(word, pattern.strip())
    if is_pattern or option_word(word) not in overridable_words():
        raise Refused(
            f"--allow {word}: there is no such refusal, or it can't be overridden.",
            f"Allowed: {', '.join(overridable_words())}, {ALLOW}=PATTERN.",
        )
    return option_word(word)


def _log_line(word: str, pattern: str) -> str:
    if not pattern:
        raise Refused(f"--allow {word}: {ALLOW} needs a pattern.", f"Give a part of the line's text: {EXAMPLE}.")
    why_not = why_not_a_pattern(pattern)
    if why_not is not None:
        raise Refused(
            f"--allow {word}: {pattern!r} can't be a pattern: {why_not}.",
            f"Give a part of the line's text, with * for what varies: {EXAMPLE}.",
        )
    return f"{ALLOW}={pattern}"
