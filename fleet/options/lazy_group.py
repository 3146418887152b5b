"""The commands that `fleet --help` lists, and a group that imports a command only when it is called.

The declaration of one command needs none of the others, and the list needs only their names and sentences.
"""

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import NamedTuple

import rich_click as click

from fleet.options.help_page import HelpedGroup

COMMAND_GROUPS = {
    "Before the first rollout": ["inventory", "trust", "demo", "lab"],
    "A rollout": ["check", "upgrade", "status", "commit", "rollback"],
    "After an interruption": ["resume", "unlock"],
    "The journal": ["history", "show"],
}
"""Every command, in the groups and the order of `fleet --help`."""


class Declared(NamedTuple):
    """The module that declares a command under its name, and the first sentence of its help."""

    module: str
    sentence: str


_SETUP, _ROLLOUT, _JOURNAL = (f"fleet.declarations.{name}_commands" for name in ("setup", "rollout", "journal"))
COMMANDS = {
    "inventory": Declared(_SETUP, "List the hosts that -i and --limit select, with labels and layout."),
    "trust": Declared(
        _SETUP, "Show the host keys that are not known yet, and store them in known_hosts once you agree."
    ),
    "demo": Declared(_SETUP, "Watch a good release, a bad release and a rollback on six pretend hosts under load."),
    "lab": Declared("fleet.lab.cli", "Run real sshd and nginx on pretend hosts of this machine."),
    "check": Declared(_ROLLOUT, "Run preflight on every host: could it take this release?"),
    "upgrade": Declared(_ROLLOUT, "Upgrade nginx on the selected hosts, batch by batch."),
    "status": Declared(_ROLLOUT, "Ask every host which nginx runs there, and show the answers."),
    "commit": Declared(_ROLLOUT, "Retire the held old masters of a rollout."),
    "rollback": Declared(_ROLLOUT, "Return every host to the release it ran before the rollout."),
    "resume": Declared(_ROLLOUT, "Continue an interrupted rollout."),
    "unlock": Declared(
        _ROLLOUT, "Show which run holds the journal and the hosts, and since when; --force releases them."
    ),
    "history": Declared(_JOURNAL, "List the rollouts in the journal, the newest first."),
    "show": Declared(_JOURNAL, "Show what happened in a rollout: the plan, each host, every event."),
}


def load(name: str) -> click.Command:
    """The command, with its options."""
    command: click.Command = getattr(import_module(COMMANDS[name].module), name)
    return command


class LazyGroup(HelpedGroup):
    """The group of `COMMANDS`. A command is imported when it is called, not when it is listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in COMMAND_GROUPS.values() for name in names]

    def sections(self, ctx: click.Context) -> Iterator[tuple[str, Sequence[str]]]:
        """The groups of `COMMAND_GROUPS`."""
        yield from COMMAND_GROUPS.items()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command as the list shows it: its name and sentence."""
        if cmd_name not in COMMANDS:
            return None
        sentence = COMMANDS[cmd_name].sentence
        return click.RichCommand(name=cmd_name, short_help=sentence, help=sentence)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in COMMANDS:
            return args[0], load(args[0]), args[1:]
        return super().resolve_command(ctx, args)
