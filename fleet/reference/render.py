"""`docs/reasons.md`, made from the code: every reason of the hosts and of the connection, and the failure modes.

    python -m fleet.reference docs

A test compares the page with what this gives.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fleet.onhost.reasons.catalogue import GROUPS
from fleet.onhost.reasons.reason import Reason
from fleet.onhost.reasons.rehearsal import REHEARSAL, SHARED
from fleet.reference.failure_modes import MODES, FailureMode
from fleet.reference.run_reasons import RUN
from fleet.ssh.reasons import WORDS

HEAD = """\
# Reasons

Every reason that fleet gives: why a host can't be upgraded, why a step failed, what fleet corrected. A reason is a word for
scripts (`reason` in `--output jsonl` and in `fleet status --json`) with a message and a remedy for people. A word keeps
its meaning; texts may change. Names in braces stand for the facts of the host.

| kind | meaning |
|---|---|
| refusal | fleet did not begin: nothing was changed |
| refusal, `--allow` | a refusal that `--allow WORD` turns into a warning; the journal records that |
| failure | a step or a visit did not reach its goal; fleet has taken the host to the nearest phase in which it can stay |
| warning | fleet continues |
| note | the visit ended well with nothing to do |

`./dev docs` writes this page from the code.
"""
SHARED_HEAD = "A failure of the launch or of verify that the rehearsal shows is a refusal with the same word: "
LINK = """\
## The connection to the host

fleet itself gives these on the machine it runs on, when a host can't be reached or gives no usable answer. Message and
remedy name what was tried.
"""
RUN_HEAD = """\
## The run

The controller gives these: in events about the whole run, and for a host that it leaves alone.
"""
FAILURES = """\
# The failure modes of nginx's own upgrade

What can go wrong when nginx replaces its own binary, and the words by which fleet reports it. *Before*: preflight finds it,
and nothing is changed yet. *After*: a step, a bake or a visit reports it when it has happened. How nginx behaves is in
`nginx-facts.md`.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, *(_group(title, reasons) for title, reasons in GROUPS), _link(), _run(), FAILURES + "\n" + _modes()]
    return "\n".join(parts)


def _group(title: str, reasons: Sequence[Reason]) -> str:
    rows = ((f"`{one.word}`", _kind(one), one.meaning, _said(one.remedy)) for one in reasons)
    more = f"\n{SHARED_HEAD}{_words(SHARED)}.\n" if reasons is REHEARSAL else ""
    return f"## {title}\n\n" + table(("word", "kind", "message", "what to do"), rows) + more


def _said(template: str) -> str:
    """The template with its doubled braces as they are printed, so that a command can be copied from the page."""
    return template.replace("{{", "{").replace("}}", "}")


def _kind(reason: Reason) -> str:
    return f"{reason.kind.value}, `--allow`" if reason.overridable else reason.kind.value


def _link() -> str:
    return LINK + "\n" + _meanings(WORDS)


def _run() -> str:
    return RUN_HEAD + "\n" + _meanings(RUN)


def _meanings(words: Mapping[str, str]) -> str:
    return table(("word", "meaning"), ((f"`{word}`", meaning) for word, meaning in words.items()))


def _modes() -> str:
    rows = (_row(mode) for mode in MODES)
    return table(("#", "failure mode", "before", "after", "what fleet does"), rows)


def _row(mode: FailureMode) -> tuple[str, ...]:
    return str(mode.number), mode.mode, _words(mode.before), _words(mode.after), mode.reaction


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words) or "–"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars in a cell are escaped."""
    return "\n".join(_lines(head, rows)) + "\n"


def _lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |"
