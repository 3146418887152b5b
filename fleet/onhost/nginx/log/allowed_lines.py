"""`--allow log-line=PATTERN`: the log lines that the operator knows to be harmless.

PATTERN is a part of a line's text, in which `*` stands for any characters, and any other character for itself. So a piece of
a line can be pasted as it is: it is full of brackets and dots, which mean something else in globs and regular expressions.
"""

import re
from typing import Iterable, Optional, Sequence, Tuple

from fleet.onhost.nginx.log.kinds import is_exit, parsed

ALLOW = "log-line"
LEAST_CHARACTERS = 8
WHOLE_LINE = re.compile(r"^\d{4}/\d\d/\d\d|\[(debug|info|notice|warn|error|crit|alert|emerg)\] |\d+#\d+: ")
EXITED = re.compile(r"exited (on signal|with fatal code)")


def named_by(patterns: Sequence[str], line: str) -> Optional[str]:
    """The pattern that names this line. A worker's exit is what the release does, not only a line: no pattern names it."""
    if is_exit(line):
        return None
    text = parsed(line).text
    return next((one for one in patterns if _fits(one, text)), None)


def _fits(pattern: str, text: str) -> bool:
    at = 0
    for part in pattern.split("*"):
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True


def patterns_in(allow: Iterable[str]) -> Tuple[str, ...]:
    """The patterns among the words of `--allow`."""
    return tuple(word.partition("=")[2] for word in allow if word.startswith(ALLOW + "="))


def why_not_a_pattern(pattern: str) -> Optional[str]:
    """Why this can't be a pattern, in words; `None` when it can."""
    if WHOLE_LINE.search(pattern):
        return "it is compared with the text of a line, without its time, level and pid"
    if EXITED.search(pattern):
        return "the exit of a worker is never allowed"
    if len(re.sub(r"[*\s]", "", pattern)) < LEAST_CHARACTERS or not re.search(r"[A-Za-z]{3}", pattern):
        return "it would name almost any line; it needs %d characters besides * and spaces" % LEAST_CHARACTERS
    return None
