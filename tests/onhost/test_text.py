"""The texts that host and laptop make the same way: lists, counts, sentences, and what a terminal may be given."""

import pytest

from fleet.onhost.text import MOST_CHARACTERS, MOST_LISTED, counted, listed, safe, sentences


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a, b"),
        (list("abcde"), "a, b, c, d, e"),
        (list("abcdef"), "a, b, c, d, e and 1 more"),
        (list("abcdefgh"), "a, b, c, d, e and 3 more"),
    ],
)
def test_a_list_names_the_first_few_and_counts_the_others(words: list[str], text: str) -> None:
    assert listed(words) == listed(iter(words)) == text


def test_a_list_has_the_length_and_the_marks_that_are_asked_for() -> None:
    assert listed("abc", 2, between=" / ") == "a / b and 1 more"
    assert listed("a" * MOST_LISTED) == ", ".join("a" * MOST_LISTED)


@pytest.mark.parametrize(
    ("text", "number", "nouns"),
    [
        ("0 hosts", 0, ()),
        ("1 host", 1, ()),
        ("2 hosts", 2, ()),
        ("1 batch", 1, ("batch", "batches")),
        ("3 batches", 3, ("batch", "batches")),
        ("3 more problems", 3, ("more problem",)),
    ],
)
def test_a_count_has_its_noun_in_the_right_number(text: str, number: int, nouns: tuple[str, ...]) -> None:
    assert counted(number, *nouns) == text


@pytest.mark.parametrize(
    ("message", "remedy", "text"),
    [
        ("It failed", "Run fleet status.", "It failed. Run fleet status."),
        ("It failed.", "Run fleet status.", "It failed. Run fleet status."),
        ("It failed. ", "Run fleet status.", "It failed. Run fleet status."),
        ("It failed (twice.)", "Run fleet status.", "It failed (twice.) Run fleet status."),
        ("Did it fail?", "Run fleet status.", "Did it fail? Run fleet status."),
        ("It failed", "", "It failed"),
        ("", "Run fleet status.", "Run fleet status."),
        ("", "", ""),
    ],
)
def test_a_message_and_its_remedy_never_run_into_each_other(message: str, remedy: str, text: str) -> None:
    assert sentences(message, remedy) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (None, ""),
        (7, "7"),
        ("nginx/1.26.3 – größer", "nginx/1.26.3 – größer"),
        ("\x1b[2J", "�[2J"),
        ("\x9b31m", "�31m"),
        ("a\tb\nc\rd", "a b c d"),
        ("\u2028", " "),
        ("\x00", "�"),
        ("\u202eevil", "�evil"),
        ("\udcff", "�"),
    ],
)
def test_a_text_of_a_host_can_not_move_a_cursor_or_reorder_a_line(text: object, shown: str) -> None:
    assert safe(text) == shown


def test_a_long_text_is_cut_and_the_cut_is_shown() -> None:
    assert safe("x" * MOST_CHARACTERS) == "x" * MOST_CHARACTERS
    assert safe("x" * (MOST_CHARACTERS + 1)) == "x" * MOST_CHARACTERS + " …"
