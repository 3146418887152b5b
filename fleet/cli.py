"""The commands, declared: arguments, options and help. What each command does is imported when it is called.

A command's first sentence says what it does, then its help says when to use it, then gives an example.
"""

import sys
from collections.abc import Sequence
from typing import Any

import rich_click as click

from fleet.environment import Environment
from fleet.errors import FleetError
from fleet.onhost.text import safe
from fleet.options.given import command_options
from fleet.options.help_layout import HOSTS, LOCKS, OUTPUT, SAFETY, STYLE
from fleet.options.lazy_group import LazyGroup, command_groups
from fleet.options.rollout import (
    COMMIT_DRAINS,
    ROLLBACK_DRAINS,
    allow_option,
    budget_options,
    drain_options,
    lease_option,
    pace_options,
)
from fleet.options.shared import (
    argument,
    confirm_option,
    connection_options,
    host_options,
    journal_option,
    json_option,
    lock_options,
    option,
    output_option,
    parallel_option,
    progress_options,
    ssh_options,
    verbose_option,
)
from fleet.ui.broken_pipe import tolerant, write_error

rollout_argument = argument(
    "rollout", "The rollout's id, or a unique start of it; without it, the newest rollout.", required=False
)
release_argument = argument(
    "release", "The path of an nginx binary, or the first 8 or more digits of a SHA-256 that the hosts keep."
)


def environment(ctx: click.Context) -> Environment:
    """The environment that a test passes in, or the real one."""
    return ctx.obj if isinstance(ctx.obj, Environment) else Environment()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "rich_help_config": STYLE})
@command_groups
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


@fleet.command()
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

    return command.run(command_options(ctx, given), as_json)


@fleet.command()
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

    return command.run(environment(ctx), command_options(ctx, given), as_json)


@fleet.command()
@release_argument
@host_options
@option(
    "--no-stage",
    env="NO_STAGE",
    panel=SAFETY,
    is_flag=True,
    help="Do not copy the release to the hosts. Checks that need it there, such as nginx -t, are then left out.",
)
@allow_option
@connection_options
@json_option
@progress_options
@click.pass_context
def check(
    ctx: click.RichContext, /, release: str, no_stage: bool, allow: tuple[str, ...], as_json: bool, **given: Any
) -> int:
    """Run preflight on every host: could it take this release?

    Use it before a rollout. Nothing that runs changes. The release is copied to the hosts (staged) and tried there
    against nginx's configuration.

    \b
    Example:
      fleet -i hosts.yaml check ./nginx-1.26.3
    """
    from fleet.commands import check as command

    options = command_options(ctx, given)
    return command.run(environment(ctx), options, release, may_stage=not no_stage, allow=allow, as_json=as_json)


@fleet.command()
@release_argument
@host_options
@pace_options()
@budget_options()
@option("--dry-run", env="DRY_RUN", panel=SAFETY, is_flag=True, help="Print the plan and contact no host.")
@confirm_option
@lease_option()
@allow_option
@drain_options(COMMIT_DRAINS)
@connection_options
@lock_options
@progress_options
@click.pass_context
def upgrade(ctx: click.RichContext, /, release: str, **given: Any) -> int:
    """Upgrade nginx on the selected hosts, batch by batch.

    Every host is staged and checked before the first one changes. The first batch is the canary. Each batch is watched
    before the next one starts. When too many hosts fail, all hosts that were started go back. Until the commit, going
    back is two signals per host.

    \b
    Examples:
      fleet -i hosts.yaml upgrade ./nginx-1.26.3 --dry-run
      fleet -i hosts.yaml upgrade ./nginx-1.26.3 --batches 1,25%,100%
    """
    from fleet.commands import upgrade as command

    options = command_options(ctx, given)
    return command.run(environment(ctx), options, release, command.UpgradeOptions(**given))


@fleet.command()
@host_options
@connection_options
@json_option
@verbose_option
@click.pass_context
def status(ctx: click.RichContext, /, as_json: bool, **given: Any) -> int:
    """Ask every host which nginx runs there, and show the answers.

    Use it at any time. It changes nothing and needs no journal. The exit code is 4 when a host does not answer.

    \b
    Example:
      fleet -i hosts.yaml status
    """
    from fleet.commands import status as command

    return command.run(environment(ctx), command_options(ctx, given), as_json)


@fleet.command()
@rollout_argument
@host_options
@confirm_option
@drain_options(COMMIT_DRAINS)
@connection_options
@lock_options
@progress_options
@click.pass_context
def commit(ctx: click.RichContext, /, rollout: str | None, drain_timeout_s: float, cut: bool, **given: Any) -> int:
    """Retire the held old masters of a rollout.

    Use it after fleet upgrade --commit never, once the new release has proved itself. After the commit, fleet rollback
    still works: it upgrades to the kept old binary.

    \b
    Example:
      fleet -i hosts.yaml commit
    """
    from fleet.commands import commit as command

    options = command_options(ctx, given)
    return command.run(environment(ctx), options, rollout, drain_timeout_s=drain_timeout_s, cut=cut)


@fleet.command()
@rollout_argument
@host_options
@confirm_option
@drain_options(ROLLBACK_DRAINS)
@connection_options
@journal_option
@progress_options
@click.pass_context
def rollback(ctx: click.RichContext, /, rollout: str | None, drain_timeout_s: float, cut: bool, **given: Any) -> int:
    """Return every host to the release it ran before the rollout.

    Use it at any time, from any phase: all hosts go back at once, committed or not. It takes over from the rollout it
    undoes and needs no journal. Hosts that never started, or are already back, are left alone.

    \b
    Example:
      fleet -i hosts.yaml rollback
    """
    from fleet.commands import rollback as command

    options = command_options(ctx, given)
    return command.run(environment(ctx), options, rollout, drain_timeout_s=drain_timeout_s, cut=cut)


@fleet.command()
@rollout_argument
@host_options
@option(
    "--release",
    env="RELEASE",
    panel=HOSTS,
    metavar="FILE",
    show_default="the rollout's own path",
    help="Where the rollout's release is now, if its file has moved. Another release is refused.",
)
@pace_options(overrides=True)
@budget_options(overrides=True)
@confirm_option
@lease_option(overrides=True)
@drain_options(COMMIT_DRAINS, overrides=True)
@connection_options
@lock_options
@progress_options
@click.pass_context
def resume(ctx: click.RichContext, /, rollout: str | None, **given: Any) -> int:
    """Continue an interrupted rollout.

    Use it after Ctrl-C, a crash or a lost link. Every host is asked for its phase first; then the missing steps are
    done, on failed hosts too. An interrupted rollback continues as a rollback, an interrupted commit as a commit. The
    options under Rollout and Safety override the settings the rollout started with.

    \b
    Example:
      fleet -i hosts.yaml resume
    """
    from fleet.commands import resume as command

    options = command_options(ctx, given)
    return command.run(environment(ctx), options, rollout, command.overrides(**given))


@fleet.command()
@host_options
@confirm_option
@connection_options
@journal_option
@option(
    "--force",
    env="FORCE",
    panel=LOCKS,
    is_flag=True,
    help="Release the locks. A run that holds the journal's lock halts; a run that is still at work on a host takes that "
    "host again at its next visit.",
)
@json_option
@verbose_option
@click.pass_context
def unlock(ctx: click.RichContext, /, as_json: bool, **given: Any) -> int:
    """Show which run holds the journal and the hosts, and since when; --force releases them.

    Use it when a command ends with exit code 5. Without an inventory only the journal's lock is shown.

    \b
    Examples:
      fleet -i hosts.yaml unlock
      fleet -i hosts.yaml unlock --force
    """
    from fleet.commands import unlock as command

    return command.run(environment(ctx), command_options(ctx, given), as_json)


@fleet.command()
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

    return command.run(command_options(ctx, given), most, as_json)


@fleet.command()
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

    return command.run(command_options(ctx, given), rollout, as_json)


@fleet.command()
@option("--name", env="DEMO_NAME", panel=HOSTS, default="demo", help="The name of the demo's lab.")
@click.pass_context
def demo(ctx: click.RichContext, /, name: str) -> int:
    """Watch a good release, a bad release and a rollback on six pretend hosts under load.

    Use it to see fleet at work. It needs root, and sshd and nginx installed on this machine. The pretend hosts are
    removed at the end.

    \b
    Example:
      sudo fleet demo
    """
    from fleet.commands import demo as command

    return command.run(environment(ctx), name)


def run(args: Sequence[str] | None = None, environment: Environment | None = None) -> int:
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


def main(environment: Environment | None = None) -> None:
    """The `fleet` command. A reader that closes the pipe is no error; output that can't be written is reported."""
    sys.stdout, sys.stderr = tolerant(sys.stdout), tolerant(sys.stderr)
    code = run(environment=environment)
    sys.stdout.flush()
    lost = write_error(sys.stdout)
    if lost is not None:
        click.echo(f"fleet: {lost} The exit code is that of the run.", err=True)
    sys.exit(code)
