"""The commands that `fleet --help` lists, and a group that imports the heavy ones only when they are called."""

from importlib import import_module
from typing import Any

import rich_click as click

COMMAND_GROUPS = {
    "Before the first rollout": ["inventory", "trust", "demo", "lab"],
    "A rollout": ["check", "upgrade", "status", "commit", "rollback"],
    "After an interruption": ["resume", "unlock"],
    "The journal": ["history", "show"],
}
"""Every command, in the groups and the order of `fleet --help`."""
LAZY = {"lab": ("fleet.lab.cli", "lab", "Run real sshd and nginx on pretend hosts of this machine.")}


class LazyGroup(click.RichGroup):
    """A group whose commands of `LAZY` are imported when they are called, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in COMMAND_GROUPS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in LAZY:
            return click.RichCommand(name=cmd_name, short_help=LAZY[cmd_name][2], help=LAZY[cmd_name][2])
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in LAZY:
            module, name, _ = LAZY[args[0]]
            command: click.Command = getattr(import_module(module), name)
            return args[0], command, args[1:]
        return super().resolve_command(ctx, args)


def command_groups(group: Any) -> Any:
    """The groups of `COMMAND_GROUPS`, on the page of `fleet --help`."""
    for title, names in reversed(COMMAND_GROUPS.items()):
        group = click.command_panel(title, commands=names)(group)
    return group
