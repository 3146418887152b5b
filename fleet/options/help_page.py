"""The page of `--help`, drawn without a library: to load rich and lay the page out with it costs 150 ms of CPU.

A page has the usage, the text, and panels: the commands of a group, the arguments, then the options by their `panel`.
"""

import inspect
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import rich_click as click

from fleet.options.help_layout import ARGUMENTS, COMMANDS, HELP

WIDTH = 80
NARROWEST = 20
"""Columns that the explanations get even in a terminal that is too narrow for them."""
PLAIN, TITLE, NAME, SHORT, VALUE, ASIDE = "", "1", "1;36", "1;32", "1;33", "2"
"""What a terminal is told for each kind of word (SGR)."""
Word = tuple[str, str]


class Row(NamedTuple):
    """A command, an argument or an option: its short name, its name, its value, and the words of its explanation."""

    short: str
    name: str
    value: str
    words: Sequence[Word]


class HelpedCommand(click.RichCommand):
    """A command with this page; rich_click draws its errors only."""

    def get_help(self, ctx: click.Context) -> str:
        """The page, in the width and the colours of the terminal."""
        return _of_terminal(ctx)


class HelpedGroup(click.RichGroup):
    """A group with this page."""

    command_class = HelpedCommand

    def get_help(self, ctx: click.Context) -> str:
        """The page, in the width and the colours of the terminal."""
        return _of_terminal(ctx)

    def sections(self, ctx: click.Context) -> Iterator[tuple[str, Sequence[str]]]:
        """The titles of its commands and their names, in the order of the page."""
        yield COMMANDS, self.list_commands(ctx)


def _of_terminal(ctx: click.Context) -> str:
    return "\n".join(page(ctx, width_of_terminal(os.environ), is_coloured(os.environ, sys.stdout.isatty())))


def page(ctx: click.Context, width: int, coloured: bool) -> Iterator[str]:
    """The lines of the page."""
    command = ctx.command
    usage = " ".join((ctx.command_path, *command.collect_usage_pieces(ctx)))
    yield from _filled([("Usage:", VALUE), *_words(usage)], "", width, coloured)
    yield ""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield from paragraph[2:].split("\n")
        else:
            yield from _filled(_words(paragraph), "", width, coloured)
        yield ""
    for title, rows in _panels(ctx):
        yield _painted(f"{title}:", TITLE, coloured)
        yield from _drawn(rows, width, coloured)
        yield ""


def _panels(ctx: click.Context) -> Iterator[tuple[str, list[Row]]]:
    if isinstance(ctx.command, HelpedGroup):
        for title, names in ctx.command.sections(ctx):
            yield title, [Row("", name, "", _words(_sentence(ctx.command, ctx, name))) for name in names]
    panels: dict[str, list[Row]] = {ARGUMENTS: []}
    for each in ctx.command.get_params(ctx):
        if isinstance(each, click.RichArgument):
            panels[ARGUMENTS].append(Row("", each.make_metavar(ctx).strip("[]"), "", _words(each.help or "")))
        elif isinstance(each, click.Option):
            title = str(getattr(each, "panel", None) or HELP)
            panels.setdefault(title, []).append(_row(each, ctx))
    yield from ((title, rows) for title, rows in panels.items() if rows)


def _sentence(group: click.RichGroup, ctx: click.Context, name: str) -> str:
    command = group.get_command(ctx, name)
    return inspect.cleandoc(command.help or "").partition("\n\n")[0] if command is not None else ""


def _row(option: click.Option, ctx: click.Context) -> Row:
    short = next((name for name in option.opts if not name.startswith("--")), "")
    long = "/".join(name for name in (*option.opts, *option.secondary_opts) if name.startswith("--"))
    value = "" if option.is_flag or option.count else option.make_metavar(ctx)
    extra = option.get_help_extra(ctx)
    words = _words(option.help or "")
    if "range" in extra:
        words += _words(f"[range: {extra['range']}]", ASIDE)
    if "default" in extra:
        words += _words(f"[default: {extra['default']}]", ASIDE)
    if "envvars" in extra:
        words += _words(f"[env: {', '.join(extra['envvars'])}]", ASIDE)
    return Row(short, long, value, words)


def _drawn(rows: Sequence[Row], width: int, coloured: bool) -> Iterator[str]:
    """The rows below each other: short names, names with their values, explanations."""
    shorts = max(len(row.short) for row in rows)
    names = max(len(f"{row.name} {row.value}".rstrip()) for row in rows)
    margin = " " * (2 + (shorts + 2 if shorts else 0) + names + 2)
    for row in rows:
        short = _painted(row.short, SHORT, coloured) + " " * (shorts - len(row.short) + 2) if shorts else ""
        name = _painted(row.name, NAME, coloured) + (f" {_painted(row.value, VALUE, coloured)}" if row.value else "")
        room = " " * (names - len(f"{row.name} {row.value}".rstrip()) + 2)
        first, *others = _filled(row.words, margin, max(width, len(margin) + NARROWEST), coloured) or [margin]
        yield f"  {short}{name}{room}{first[len(margin) :]}".rstrip()
        yield from others


def _words(text: str, style: str = PLAIN) -> list[Word]:
    return [(word, style) for word in text.split()]


def _filled(words: Sequence[Word], margin: str, width: int, coloured: bool) -> list[str]:
    """The words in lines of at most this width, each after the margin."""
    lines: list[list[Word]] = []
    left = 0
    for word in words:
        if not lines or left < len(word[0]) + 1:
            lines.append([])
            left = width - len(margin) + 1
        lines[-1].append(word)
        left -= len(word[0]) + 1
    return [margin + " ".join(_painted(*word, coloured) for word in line) for line in lines]


def _painted(text: str, style: str, coloured: bool) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if coloured and style and text else text


def width_of_terminal(environ: Mapping[str, str]) -> int:
    """The columns: what COLUMNS says, else those of the terminal, else 80."""
    told = environ.get("COLUMNS", "")
    if told.isdigit() and int(told):
        return int(told)
    for descriptor in (1, 2, 0):
        try:
            return os.get_terminal_size(descriptor).columns or WIDTH
        except OSError:
            continue
    return WIDTH


def is_coloured(environ: Mapping[str, str], is_terminal: bool) -> bool:
    """Whether to paint words: NO_COLOR and FORCE_COLOR decide, else the terminal."""
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or (is_terminal and environ.get("TERM") not in ("dumb", "unknown"))
