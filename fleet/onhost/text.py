"""Words for people, made the same way on the host and on the laptop: lists, counts, sentences, text safe for a terminal."""

from typing import Iterable

MOST_LISTED = 5
MOST_CHARACTERS = 4000


def listed(words: Iterable[str], most: int = MOST_LISTED, between: str = ", ") -> str:
    """`a, b and 3 more`: the first `most` words, and how many more there are."""
    found = list(words)
    more = " and %d more" % (len(found) - most) if len(found) > most else ""
    return between.join(found[:most]) + more


def counted(number: int, noun: str = "host", plural: str = "") -> str:
    """`1 host`, `2 hosts`; `plural` where it is not the noun with an s."""
    return "%d %s" % (number, noun if number == 1 else plural or noun + "s")


def sentences(message: str, remedy: str) -> str:
    """What is so and what to do now, each as a sentence of its own."""
    message = message.rstrip()
    if message and remedy and not message.endswith((".", "!", "?", "…", ".)")):
        message += "."
    return " ".join(part for part in (message, remedy) if part)


def safe(text: object, most: int = MOST_CHARACTERS) -> str:
    """The text in one line without anything that could move a cursor, colour a terminal or reorder a line.

    All text from a host is data: its owner controls version strings and file names, too. White space becomes
    a space, any other character that is not printable U+FFFD; a text over `most` characters is cut.
    """
    words = "" if text is None else str(text)
    kept = "".join(letter if letter.isprintable() else " " if letter.isspace() else "�" for letter in words)
    return kept if len(kept) <= most else kept[:most] + " …"
