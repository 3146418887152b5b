"""`--allow log-line=PATTERN`: a pasted part of a line works, and what would allow everything is no pattern."""

import pytest

from fleet.onhost.nginx.log.allowed_lines import named_by, patterns_in, why_not_a_pattern
from fleet.onhost.nginx.log.kinds import suggested_pattern

RLIMIT = "2026/11/23 10:00:00 [alert] 91#91: setrlimit(RLIMIT_NOFILE, 131072) failed (1: Operation not permitted)"
CRASH = "2026/11/23 10:00:00 [alert] 90#90: worker process 91 exited on signal 11"


@pytest.mark.parametrize(
    "pattern",
    [
        "setrlimit(RLIMIT_NOFILE, 131072) failed (1: Operation not permitted)",
        "setrlimit(",
        "setrlimit(*failed",
        "*RLIMIT_NOFILE*",
        suggested_pattern(RLIMIT),
    ],
)
def test_a_part_of_the_text_names_the_line_and_a_star_stands_for_any_characters(pattern: str) -> None:
    assert named_by(["something else", pattern], RLIMIT) == pattern
    assert why_not_a_pattern(pattern) is None


@pytest.mark.parametrize("pattern", ["setrlimit[(]", "setrlimit.RLIMIT", "failed*setrlimit", "SETRLIMIT(", "91#91"])
def test_a_pattern_is_no_regular_expression_and_its_parts_have_an_order(pattern: str) -> None:
    assert named_by([pattern], RLIMIT) is None


def test_no_pattern_names_the_exit_of_a_worker() -> None:
    assert named_by(["worker process", "*"], CRASH) is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("*", "any line"),
        ("failed", "any line"),
        ("* * *", "any line"),
        ("(22: 1234567)", "any line"),
        ("worker process * exited on signal 9", "never allowed"),
        ("exited with fatal code", "never allowed"),
        (RLIMIT, "without its time"),
        ("[alert] 91#91: setrlimit(RLIMIT_NOFILE", "without its time"),
    ],
)
def test_what_would_allow_almost_everything_or_could_never_fit_is_no_pattern(pattern: str, why: str) -> None:
    assert why in str(why_not_a_pattern(pattern))


def test_the_patterns_are_found_among_the_other_words_of_allow() -> None:
    assert patterns_in(("quic", "log-line=a=b c", "poisoned")) == ("a=b c",)
