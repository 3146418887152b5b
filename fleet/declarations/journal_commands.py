"""The commands that read the journal, declared: history and show."""

from typing import Any

import rich_click as click

from fleet.options.help_layout import OUTPUT
from fleet.options.help_page import HelpedCommand
from fleet.options.shared import (
    journal_option,
    json_option,
    option,
    output_option,
    rollout_argument,
)


@click.command(cls=HelpedCommand)
@journal_option
@option(
    "--most",
    env="MOST",
    panel=OUTPUT,
    metavar="N",
    type=click.IntRange(1),
    default=20,
    help="How many rollouts to list, the newest first.",
)
@json_option
@click.pass_context
def history(ctx: click.RichContext, /, most: int, as_json: bool, **given: Any) -> int:
    """List the rollouts in the journal, the newest first.

    Use it to find a rollout's id and how it ended. No host is contacted.

    \b
    Example:
      fleet history --most 5
    """
    from fleet.commands import history as command
    from fleet.options.given import command_options

    return command.run(command_options(ctx, given), most, as_json)


@click.command(cls=HelpedCommand)
@rollout_argument
@journal_option
@output_option
@json_option
@click.pass_context
def show(ctx: click.RichContext, /, rollout: str | None, as_json: bool, **given: Any) -> int:
    """Show what happened in a rollout: the plan, each host, every event.

    Use it afterwards to see why a host failed. It reads the journal; no host is contacted.

    \b
    Example:
      fleet show 20261123-1012
    """
    from fleet.commands import show as command
    from fleet.options.given import command_options

    return command.run(command_options(ctx, given), rollout, as_json)
