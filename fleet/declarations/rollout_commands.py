"""The commands of a rollout, declared: from check to rollback, and what continues an interrupted one."""

from typing import Any

import rich_click as click

from fleet.options.help_layout import HOSTS, LOCKS, SAFETY
from fleet.options.help_page import HelpedCommand
from fleet.options.rollout import (
    COMMIT_DRAINS,
    COMMIT_WITHIN,
    ROLLBACK_DRAINS,
    UPGRADE_WITHIN,
    allow_option,
    allow_overwrite_option,
    budget_options,
    drain_options,
    guard_option,
    hold_package_option,
    lease_option,
    pace_options,
    refuse_lone_within,
    rehearse_option,
    within_option,
)
from fleet.options.shared import (
    confirm_option,
    connection_options,
    host_options,
    journal_option,
    json_option,
    lock_options,
    option,
    progress_options,
    release_argument,
    rollout_argument,
    verbose_option,
)


@click.command(cls=HelpedCommand)
@release_argument
@host_options
@option(
    "--no-stage",
    env="NO_STAGE",
    panel=SAFETY,
    is_flag=True,
    help="Do not copy the release to the hosts. Checks that need it there, such as the rehearsal, are then left out.",
)
@allow_option()
@rehearse_option()
@connection_options
@json_option
@progress_options
@click.pass_context
def check(
    ctx: click.RichContext,
    /,
    release: str,
    no_stage: bool,
    allow: tuple[str, ...],
    rehearse: str,
    as_json: bool,
    **given: Any,
) -> int:
    """Run preflight on every host: could it take this release?

    Use it before a rollout. Nothing that runs changes. The release is copied to the hosts (staged), and the upgrade is
    rehearsed there on a private copy of what nginx sees, which no user meets.

    \b
    Example:
      fleet -i hosts.yaml check ./nginx-1.26.3
    """
    from fleet.commands import check as command
    from fleet.options.given import command_options, environment

    options = command_options(ctx, given)
    return command.run(
        environment(ctx), options, release, may_stage=not no_stage, allow=allow, rehearse=rehearse, as_json=as_json
    )


@click.command(cls=HelpedCommand)
@release_argument
@host_options
@pace_options()
@budget_options()
@option("--dry-run", env="DRY_RUN", panel=SAFETY, is_flag=True, help="Print the plan and contact no host.")
@confirm_option
@lease_option()
@allow_option()
@rehearse_option()
@guard_option()
@hold_package_option()
@drain_options(COMMIT_DRAINS)
@within_option(UPGRADE_WITHIN)
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
    from fleet.options.given import command_options, environment

    refuse_lone_within(ctx, given["commit"] == "when-drained")
    options = command_options(ctx, given)
    return command.run(environment(ctx), options, release, command.UpgradeOptions(**given))


@click.command(cls=HelpedCommand)
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
    from fleet.options.given import command_options, environment

    return command.run(environment(ctx), command_options(ctx, given), as_json)


@click.command(cls=HelpedCommand)
@rollout_argument
@host_options
@confirm_option
@option(
    "--when-drained",
    env="WHEN_DRAINED",
    panel=SAFETY,
    is_flag=True,
    help="Do not wait: leave it to each host, which retires its old master once the old connections have ended.",
)
@within_option(COMMIT_WITHIN)
@drain_options(COMMIT_DRAINS)
@connection_options
@lock_options
@progress_options
@click.pass_context
def commit(
    ctx: click.RichContext,
    /,
    rollout: str | None,
    when_drained: bool,
    within_s: float,
    drain_timeout_s: float,
    cut: bool,
    **given: Any,
) -> int:
    """Retire the held old masters of a rollout.

    Use it after fleet upgrade --commit never, once the new release has proved itself. After the commit, fleet rollback
    still works: it upgrades to the kept old binary. Downloads and WebSockets can keep the old workers for hours. With
    --when-drained you need not wait for them.

    \b
    Examples:
      fleet -i hosts.yaml commit
      fleet -i hosts.yaml commit --when-drained --within 12h
    """
    from fleet.commands import commit as command
    from fleet.options.given import command_options, environment

    options = command_options(ctx, given)
    refuse_lone_within(ctx, when_drained)
    policy = command.policy_of(options, within_s if when_drained else None, drain_timeout_s=drain_timeout_s, cut=cut)
    return command.run(environment(ctx), options, rollout, policy)


@click.command(cls=HelpedCommand)
@rollout_argument
@host_options
@confirm_option
@drain_options(ROLLBACK_DRAINS)
@allow_overwrite_option()
@connection_options
@journal_option
@progress_options
@click.pass_context
def rollback(
    ctx: click.RichContext,
    /,
    rollout: str | None,
    drain_timeout_s: float,
    cut: bool,
    allow: tuple[str, ...],
    **given: Any,
) -> int:
    """Return every host to the release it ran before the rollout.

    Use it at any time, from any phase: all hosts go back at once, committed or not. It takes over from the rollout it
    undoes and needs no journal. Hosts that never started, or are already back, are left alone.

    \b
    Example:
      fleet -i hosts.yaml rollback
    """
    from fleet.commands import rollback as command
    from fleet.options.given import command_options, environment

    options = command_options(ctx, given)
    return command.run(environment(ctx), options, rollout, drain_timeout_s=drain_timeout_s, cut=cut, allow=allow)


@click.command(cls=HelpedCommand)
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
@allow_option(overrides=True)
@rehearse_option(overrides=True)
@guard_option(overrides=True)
@hold_package_option(overrides=True)
@drain_options(COMMIT_DRAINS, overrides=True)
@within_option(UPGRADE_WITHIN, overrides=True)
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
    from fleet.options.given import command_options, environment

    options = command_options(ctx, given)
    return command.run(environment(ctx), options, rollout, command.overrides(**given))


@click.command(cls=HelpedCommand)
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
    from fleet.options.given import command_options, environment

    return command.run(environment(ctx), command_options(ctx, given), as_json)
