"""`docs/reasons.md`, made from the code: every word that a host or the laptop says, and the 44 failure modes.

    python -m fleet.reference docs

A test holds the page against what this gives, so that it can't fall behind.
"""

from collections.abc import Iterable, Iterator, Sequence

from fleet.onhost.reasons.catalogue import GROUPS
from fleet.onhost.reasons.reason import Reason
from fleet.reference.failure_modes import MODES, Mode
from fleet.ssh.reasons import WORDS

HEAD = """\
# Reasons

What a host says when it can't be upgraded, when a step went wrong, or when something was put right: a word for scripts
(`reason` in `--output jsonl` and `fleet status --json`), a message and a remedy for people. This page is made from the
code by `./dev docs`; the braces stand for the facts of the host.

| kind | what it means |
|---|---|
| refusal | not begun: nothing was changed by it |
| refusal, `--allow` | the same, and an operator may take the risk: `--allow WORD`, which is recorded |
| failure | a step acted, and its effect did not come or was bad; the host was taken to a phase in which it can rest |
| warning | said, and gone on |
| note | why a visit ended well with nothing to do |
"""
LINK = """\
## The link to the host

Said by the laptop: the host could not be asked, or did not answer. Its message and remedy name what was tried.
"""
FAILURES = """\
# The failure modes of nginx's own upgrade

Each has been met in the wild or made on purpose; the words say how a host tells it. *Before* is preflight: nothing is
changed yet. *After* is what a step, a bake or a visit says when it has happened.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, *(_group(title, reasons) for title, reasons in GROUPS), _link(), FAILURES + "\n" + _modes()]
    return "\n".join(parts)


def _group(title: str, reasons: Sequence[Reason]) -> str:
    rows = ((f"`{one.word}`", _kind(one), one.meaning, one.remedy) for one in reasons)
    return f"## {title}\n\n" + table(("word", "kind", "what is so", "what to do now"), rows)


def _kind(reason: Reason) -> str:
    return f"{reason.kind.value}, `--allow`" if reason.overridable else reason.kind.value


def _link() -> str:
    return LINK + "\n" + table(("word", "what is so"), ((f"`{word}`", meaning) for word, meaning in WORDS.items()))


def _modes() -> str:
    rows = (_row(mode) for mode in MODES)
    return table(("#", "mode", "before", "after", "what is done"), rows)


def _row(mode: Mode) -> tuple[str, ...]:
    return str(mode.number), mode.mode, _words(mode.before), _words(mode.after), mode.reaction


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words) or "–"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; what would end a cell is escaped."""
    return "\n".join(_lines(head, rows)) + "\n"


def _lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |"
