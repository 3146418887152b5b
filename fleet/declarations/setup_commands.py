"""The commands before the first rollout, declared: inventory, trust and demo."""

from typing import Any

import rich_click as click

from fleet.options.help_layout import HOSTS
from fleet.options.help_page import HelpedCommand
from fleet.options.shared import (
    confirm_option,
    host_options,
    json_option,
    option,
    parallel_option,
    ssh_options,
    verbose_option,
)


@click.command(cls=HelpedCommand)
@host_options
@json_option
@verbose_option
@click.pass_context
def inventory(ctx: click.RichContext, /, as_json: bool, **given: Any) -> int:
    """List the hosts that -i and --limit select, with labels and layout.

    Use it to see which hosts a command would work on. No host is contacted.

    \b
    Example:
      fleet -i hosts.yaml inventory --limit 'web:&eu'
    """
    from fleet.commands import inventory as command
    from fleet.options.given import command_options

    return command.run(command_options(ctx, given), as_json)


@click.command(cls=HelpedCommand)
@host_options
@confirm_option
@parallel_option
@ssh_options
@json_option
@verbose_option
@click.pass_context
def trust(ctx: click.RichContext, /, as_json: bool, **given: Any) -> int:
    """Show the host keys that are not known yet, and store them in known_hosts once you agree.

    Use it before the first rollout, and after adding hosts. Compare the fingerprints with those that ssh-keygen -l
    prints on the host's console. fleet logs in to bastions only. A changed key is shown, and never stored.

    \b
    Example:
      fleet -i hosts.yaml trust
    """
    from fleet.commands import trust as command
    from fleet.options.given import command_options, environment

    return command.run(environment(ctx), command_options(ctx, given), as_json)


@click.command(cls=HelpedCommand)
@option("--name", env="DEMO_NAME", panel=HOSTS, default="demo", help="The name of the demo's lab.")
@click.pass_context
def demo(ctx: click.RichContext, /, name: str) -> int:
    """Watch a good release, a bad release and a rollback on six pretend hosts under load.

    Use it to see fleet at work. The bad release is refused by its rehearsal first; once more without a rehearsal, the
    first host goes back by itself. It needs root, and sshd and nginx installed on this machine. The pretend hosts are
    removed at the end.

    \b
    Example:
      sudo fleet demo
    """
    from fleet.commands import demo as command
    from fleet.options.given import environment

    return command.run(environment(ctx), name)
