"""`docs/cli.md`, made from the declared commands: their options, the exit codes, the JSON documents and the events.

    python -m fleet.reference docs

A test holds the page equal to what this gives.
"""

import inspect
import json
from collections import Counter
from collections.abc import Iterable, Iterator

import rich_click as click

from fleet.options.help_layout import CONNECTION, HOSTS, LOCKS, OUTPUT, ROLLOUT, SAFETY
from fleet.options.lazy_group import COMMAND_GROUPS, COMMANDS, load
from fleet.reference.documents import DOCUMENTS
from fleet.reference.event_types import EVENTS
from fleet.reference.exit_codes import EXIT_CODES
from fleet.reference.render import table

HEAD = """\
# The command line

Every command and option of `fleet`, its exit codes, and the JSON that scripts read. This page is made from the code by
`./dev docs`. Names, shapes and meanings on it are stable: further keys and options may be added, none changes its meaning.
"""
ENVIRONMENT = """\
## Environment variables

Every option has an environment variable, named in the tables. The command line takes precedence. A flag is set by `1` and
unset by `0`. An option that may be repeated takes several values: `FLEET_INVENTORY` separated by colons, the others by
spaces. `NO_COLOR` and `FORCE_COLOR` turn colours off and on; `COLUMNS` sets the width.
"""
OUTPUT_STREAMS = """\
## JSON documents

Results go to stdout, progress and errors to stderr. With `--json`, stdout holds one document. Hashes are shortened here.
"""
EVENT_LINES = """\
## Events

`--output jsonl` prints one event per line, and `--log-file` appends the same lines to a file. Each is a `fleet.event/1` with
the keys `schema`, `at` (UTC), `rollout`, `type`, `host`, `batch`, `step`, `outcome`, `reason`, `message` and `took_s`; null
where they do not apply. Some types have further keys. The last line is always `rollout_ended`.
"""
SHARED_BY = 3
"""An option that so many commands have in the very same form is explained once, for all of them."""
Key = tuple[str, ...]


def page() -> str:
    """The whole page."""
    shared = _shared()
    parts = [HEAD, _overview()]
    parts += [_command(f"fleet {name}", command, shared) for name, command in _commands()]
    parts += [_shared_options(shared), _lab(), ENVIRONMENT, _exit_codes(), _documents(), _events()]
    return "\n".join(parts)


def _commands() -> Iterator[tuple[str, click.Command]]:
    for names in COMMAND_GROUPS.values():
        yield from ((name, load(name)) for name in names if name != "lab")


def _options(command: click.Command) -> list[click.RichOption]:
    return [each for each in command.params if isinstance(each, click.RichOption) and each.envvar]


def _key(option: click.RichOption) -> Key:
    return (*option.opts, option.help or "", _default(option))


def _shared() -> dict[Key, click.RichOption]:
    options = [option for _, command in _commands() for option in _options(command)]
    counts = Counter(map(_key, options))
    return {_key(option): option for option in options if counts[_key(option)] >= SHARED_BY}


def _overview() -> str:
    rows = [
        ("" if name != names[0] else title, f"[`fleet {name}`](#fleet-{name})", COMMANDS[name].sentence)
        for title, names in COMMAND_GROUPS.items()
        for name in names
    ]
    return table(("", "command", "what it does"), rows)


def _first_sentence(command: click.Command) -> str:
    return " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())


def _command(path: str, command: click.Command, shared: dict[Key, click.RichOption]) -> str:
    own = [option for option in _options(command) if _key(option) not in shared]
    others = [option for option in _options(command) if _key(option) in shared]
    parts = [f"## {path}\n", *_prose(path, command)]
    arguments = [each for each in command.params if isinstance(each, click.RichArgument)]
    if arguments:
        rows = ((f"`{(each.name or '').upper()}`", each.help or "") for each in arguments)
        parts.append(table(("argument", "meaning"), rows))
    if own:
        parts.append(_option_table(own))
    if others:
        names = ", ".join(f"`{_long(option)}`" for option in others)
        parts.append(f"[Shared options](#shared-options): {names}.\n")
    return "\n".join(parts)


def _prose(path: str, command: click.Command) -> Iterator[str]:
    """The help, with the usage after the first sentence; examples are blocks of code."""
    context = click.Context(command, info_name=path)
    first, *paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    yield " ".join(first.split()) + "\n"
    yield f"```\n{' '.join([path, *command.collect_usage_pieces(context)])}\n```\n"
    for paragraph in paragraphs:
        lines = paragraph.strip("\b\n").split("\n")
        if paragraph.startswith("\b"):
            yield f"{lines[0]}\n\n```\n" + "\n".join(inspect.cleandoc("\n".join(lines[1:])).split("\n")) + "\n```\n"
        else:
            yield " ".join(lines) + "\n"


def _shared_options(shared: dict[Key, click.RichOption]) -> str:
    parts = ["## Shared options\n"]
    for title in (HOSTS, ROLLOUT, SAFETY, CONNECTION, LOCKS, OUTPUT):
        options = [option for option in shared.values() if option.panel == title]
        if options:
            parts += [f"### {title}\n", _option_table(options)]
    return "\n".join(parts)


def _lab() -> str:
    lab = load("lab")
    if not isinstance(lab, click.RichGroup):
        raise TypeError("fleet lab is no group of commands")
    parts = ["## fleet lab\n", *_prose("fleet lab", lab)]
    for name, command in lab.commands.items():
        parts.append(_command(f"fleet lab {name}", command, {}).replace("## fleet", "### fleet", 1))
    return "\n".join(parts)


def _option_table(options: Iterable[click.RichOption]) -> str:
    rows = ((_spelled(each), each.help or "", _default(each), f"`{each.envvar}`") for each in options)
    return table(("option", "meaning", "default", "environment"), rows)


def _spelled(option: click.RichOption) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    value = "" if option.is_flag or option.count else " " + (option.metavar or option.type.name.upper())
    return f"`{names}{value}`"


def _long(option: click.RichOption) -> str:
    return max(option.opts, key=len)


def _default(option: click.RichOption) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    return "off" if option.is_flag else f"`{option.default}`"


def _exit_codes() -> str:
    rows = ((f"`{code}`", meaning) for code, meaning in sorted(EXIT_CODES.items()))
    return "## Exit codes\n\n" + table(("code", "meaning"), rows)


def _documents() -> str:
    parts = [OUTPUT_STREAMS]
    for each in DOCUMENTS:
        parts.append(f"### {each.schema}\n\n`{each.command}`. {each.meaning}\n\n```json\n{_json(each.example)}\n```\n")
    return "\n".join(parts)


def _json(example: object) -> str:
    return json.dumps(example, indent=1).replace("0" * 58, "…")


def _events() -> str:
    rows = ((f"`{each.value}`", EVENTS[each].meaning) for each in EVENTS)
    lines = "\n".join(EVENTS[each].event.to_json().replace("0" * 58, "…") for each in EVENTS)
    return f"{EVENT_LINES}\n{table(('type', 'when'), rows)}\nOne example of each:\n\n```json\n{lines}\n```\n"
