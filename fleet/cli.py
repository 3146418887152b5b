"""The command line of `fleet`: its commands as one group, and how a run of it ends.

The commands are declared in `declarations/`; each one is imported when it is called, and what it does when it runs. So
`--help` and the shell's completion load neither.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import rich_click as click

from fleet.errors import FleetError
from fleet.onhost.text import safe
from fleet.options.help_layout import ERRORS
from fleet.options.lazy_group import LazyGroup
from fleet.options.shared import confirm_option, host_options, verbose_option
from fleet.ui.broken_pipe import tolerant, write_error

if TYPE_CHECKING:
    from fleet.environment import Environment


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "rich_help_config": ERRORS})
@host_options
@confirm_option
@verbose_option
@click.version_option(package_name="nginx-fleet", prog_name="fleet")
def fleet(**_: Any) -> None:
    """Upgrade the nginx binary on many servers without losing a request, and roll it back the same way.

    Each host keeps a serving nginx at every step. Until the commit, going back is two signals per host.

    \b
    Start:
      sudo fleet demo
      export FLEET_INVENTORY=hosts.yaml
      fleet check ./nginx
      fleet upgrade ./nginx
      fleet status
    """


def run(args: Sequence[str] | None = None, environment: "Environment | None" = None) -> int:
    """The exit code of a command line. An error is one line on stderr; a traceback means a bug in fleet."""
    try:
        code = fleet.main(args, prog_name="fleet", standalone_mode=False, obj=environment)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("fleet: Interrupted.", err=True)
        return 130
    except FleetError as error:
        click.echo("\n".join(f"fleet: {safe(line)}" for line in error.lines), err=True)
        return error.exit_code
    return code if isinstance(code, int) else 0


def main(environment: "Environment | None" = None) -> None:
    """The `fleet` command. A reader that closes the pipe is no error; output that can't be written is reported."""
    sys.stdout, sys.stderr = tolerant(sys.stdout), tolerant(sys.stderr)
    code = run(environment=environment)
    sys.stdout.flush()
    lost = write_error(sys.stdout)
    if lost is not None:
        click.echo(f"fleet: {lost} The exit code is that of the run.", err=True)
    sys.exit(code)
