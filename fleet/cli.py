"""The commands, and nothing else: what each does is imported when it is called, so that `--help` is fast.

What they share of options is in `options`.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import rich_click as click

from fleet.environment import Environment
from fleet.errors import FleetError
from fleet.onhost.text import safe
from fleet.options import (
    COMMIT_WAITS,
    ROLLBACK_WAITS,
    Duration,
    allow_option,
    command_options,
    confirm_option,
    connection_options,
    drain_options,
    host_options,
    journal_option,
    json_option,
    lease_option,
    lock_options,
    option,
    output_option,
    override,
    progress_options,
    selection_options,
)
from fleet.ui.broken_pipe import tolerant, write_error

LAZY = {"lab": ("fleet.lab.cli", "lab", "Pretend hosts on this machine: real sshd and nginx, to try everything on.")}


class LazyGroup(click.RichGroup):
    """A group whose commands of `LAZY` are imported when they are called, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *LAZY}, key=ORDER.index)

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


ORDER = [
    *("inventory", "trust", "check", "upgrade", "status", "commit", "rollback", "resume"),
    *("history", "show", "unlock", "lab", "demo"),
]


def environment(ctx: click.Context) -> Environment:
    """The world that a test handed in, or the real one."""
    return ctx.obj if isinstance(ctx.obj, Environment) else Environment()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@selection_options
@confirm_option
@click.version_option(package_name="nginx-fleet", prog_name="fleet")
def fleet(**_: Any) -> None:
    """Upgrade the nginx binary on many servers without losing a request, and take it back as calmly."""


@fleet.command()
@selection_options
@json_option
@click.pass_context
def inventory(ctx: click.RichContext, /, as_json: bool, **given: Any) -> int:
    """The hosts that -i and --limit select, with labels and layout."""
    from fleet.commands import inventory as command

    return command.run(command_options(ctx, given), as_json)


@fleet.command()
@selection_options
@host_options
@confirm_option
@json_option
@click.pass_context
def trust(ctx: click.RichContext, /, as_json: bool, **given: Any) -> int:
    """The host keys that are not known yet, bastions' too, with their fingerprints; agreed on once, they are stored in
    known_hosts. Nobody logs in but at the bastions. A key that has changed is shown and never stored."""
    from fleet.commands import trust as command

    return command.run(environment(ctx), command_options(ctx, given), as_json)


@fleet.command()
@click.argument("release")
@selection_options
@connection_options
@progress_options
@allow_option
@option("--no-stage", env="NO_STAGE", is_flag=True, help="Do not even bring the release to the hosts.")
@json_option
@click.pass_context
def check(
    ctx: click.RichContext, /, release: str, no_stage: bool, allow: tuple[str, ...], as_json: bool, **given: Any
) -> int:
    """Preflight on every host; changes nothing that runs. Stages the release there. RELEASE as in upgrade: an nginx
    binary, or 8+ digits of a hash the hosts keep."""
    from fleet.commands import check as command

    return command.run(
        environment(ctx), command_options(ctx, given), release, may_stage=not no_stage, allow=allow, as_json=as_json
    )


@fleet.command()
@click.argument("release")
@selection_options
@connection_options
@confirm_option
@progress_options
@option("--batches", env="BATCHES", default="1,10%,50%,100%", help="Sizes of successive batches; the last one repeats.")
@option(
    "--bake",
    "bake_s",
    env="BAKE",
    type=Duration(),
    default="30s",
    help="How long a batch is watched before the next one.",
)
@option(
    "--settle",
    "settle_s",
    env="SETTLE",
    type=Duration(),
    default="2s",
    help="How long new workers must stay stable before drain.",
)
@option("--max-failures", env="MAX_FAILURES", default="0", help="How many hosts may fail: N, or N% of all.")
@option(
    "--on-failure",
    env="ON_FAILURE",
    type=click.Choice(["rollback", "halt", "continue"]),
    default="rollback",
    help="What happens when more than that failed.",
)
@option(
    "--commit",
    env="COMMIT",
    type=click.Choice(["end", "batch", "never"]),
    default="end",
    help="When the held old masters are retired.",
)
@drain_options(COMMIT_WAITS)
@lease_option
@allow_option
@journal_option
@lock_options
@option("--dry-run", env="DRY_RUN", is_flag=True, help="Say the plan and connect to nobody.")
@click.pass_context
def upgrade(ctx: click.RichContext, /, release: str, **given: Any) -> int:
    """The rollout: preflight, batches, gates, commit. RELEASE is an nginx binary, or 8+ digits of a hash the hosts keep."""
    from fleet.commands import upgrade as command

    before = command_options(ctx, given)
    given["drain_timeout_s"] = given.pop("drain_timeout")
    return command.run(environment(ctx), before, release, command.UpgradeOptions(**given))


@fleet.command()
@selection_options
@connection_options
@json_option
@click.pass_context
def status(ctx: click.RichContext, /, as_json: bool, **given: Any) -> int:
    """What every host says of itself now."""
    from fleet.commands import status as command

    return command.run(environment(ctx), command_options(ctx, given), as_json)


@fleet.command()
@click.argument("rollout", required=False)
@selection_options
@connection_options
@confirm_option
@progress_options
@drain_options(COMMIT_WAITS)
@journal_option
@lock_options
@click.pass_context
def commit(ctx: click.RichContext, /, rollout: str | None, drain_timeout: float, cut: bool, **given: Any) -> int:
    """Retire the held old masters. ROLLOUT is its id or the start of it; left out, the newest one."""
    from fleet.commands import commit as command

    return command.run(environment(ctx), command_options(ctx, given), rollout, drain_timeout_s=drain_timeout, cut=cut)


@fleet.command()
@click.argument("rollout", required=False)
@selection_options
@connection_options
@confirm_option
@progress_options
@drain_options(ROLLBACK_WAITS)
@journal_option
@click.pass_context
def rollback(ctx: click.RichContext, /, rollout: str | None, drain_timeout: float, cut: bool, **given: Any) -> int:
    """Back to the release before, from any phase, all hosts at once. ROLLOUT as in commit."""
    from fleet.commands import rollback as command

    return command.run(environment(ctx), command_options(ctx, given), rollout, drain_timeout_s=drain_timeout, cut=cut)


@fleet.command()
@click.argument("rollout", required=False)
@selection_options
@connection_options
@confirm_option
@progress_options
@option("--release", env="RELEASE", metavar="FILE", help="The rollout's release, if its file lies elsewhere now.")
@override("--batches", env="BATCHES", help="Cut the hosts into other batches.")
@override("--bake", "bake_s", env="BAKE", type=Duration())
@override("--settle", "settle_s", env="SETTLE", type=Duration())
@override("--max-failures", env="MAX_FAILURES")
@override("--on-failure", env="ON_FAILURE", type=click.Choice(["rollback", "halt", "continue"]))
@override("--commit", env="COMMIT", type=click.Choice(["end", "batch", "never"]))
@override("--drain-timeout", "drain_timeout_s", env="DRAIN_TIMEOUT", type=Duration())
@override("--cut/--no-cut", "cut", env="CUT")
@override("--lease", "lease_s", env="LEASE", type=Duration())
@journal_option
@lock_options
@click.pass_context
def resume(ctx: click.RichContext, /, rollout: str | None, **given: Any) -> int:
    """Go on with an interrupted rollout: every host is asked where it is, and what is missing is done, failed hosts
    included. Options that are not given are as the rollout began. ROLLOUT as in commit."""
    from fleet.commands import resume as command

    before = command_options(ctx, given)
    return command.run(environment(ctx), before, rollout, command.changes(**given))


@fleet.command()
@selection_options
@connection_options
@confirm_option
@journal_option
@option("--force", env="FORCE", is_flag=True, help="Free what is held: whoever holds it turns back.")
@json_option
@click.pass_context
def unlock(ctx: click.RichContext, /, as_json: bool, **given: Any) -> int:
    """Who holds which lock, since when: the journal's, and with an inventory each host's. --force frees them; a run that
    is still at work on a host takes it again at its next visit."""
    from fleet.commands import unlock as command

    return command.run(environment(ctx), command_options(ctx, given), as_json)


@fleet.command()
@journal_option
@option(
    "--most", env="MOST", type=click.IntRange(1), default=20, help="How many rollouts are listed, the newest first."
)
@json_option
@click.pass_context
def history(ctx: click.RichContext, /, most: int, as_json: bool, **given: Any) -> int:
    """The rollouts that the journal knows. No host is asked."""
    from fleet.commands import history as command

    return command.run(command_options(ctx, given), most, as_json)


@fleet.command()
@click.argument("rollout", required=False)
@journal_option
@output_option
@json_option
@click.pass_context
def show(ctx: click.RichContext, /, rollout: str | None, as_json: bool, **given: Any) -> int:
    """What happened in a rollout, by the journal: the plan, each host, every event. ROLLOUT as in commit."""
    from fleet.commands import show as command

    return command.run(command_options(ctx, given), rollout, as_json)


@fleet.command()
@option("--name", env="DEMO_NAME", default="demo", help="The name of its lab.")
@click.pass_context
def demo(ctx: click.RichContext, /, name: str) -> int:
    """A lab, a rollout under load, a bad release that goes back by itself, and the whole fleet back."""
    from fleet.commands import demo as command

    return command.run(environment(ctx), name)


def run(args: Sequence[str] | None = None, environment: Environment | None = None) -> int:
    """The exit code of a command line. A trouble is one line on stderr; a traceback is a bug in fleet."""
    try:
        code = fleet.main(args, prog_name="fleet", standalone_mode=False, obj=environment)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("fleet: interrupted.", err=True)
        return 130
    except FleetError as error:
        click.echo(f"fleet: {safe(error)}", err=True)
        return error.exit_code
    return code if isinstance(code, int) else 0


def main(environment: Environment | None = None) -> None:
    """The `fleet` command. That nobody reads what it writes is no trouble; that it can't be written is told."""
    sys.stdout, sys.stderr = tolerant(sys.stdout), tolerant(sys.stderr)
    code = run(environment=environment)
    sys.stdout.flush()
    lost = write_error(sys.stdout)
    if lost is not None:
        click.echo(f"fleet: {lost} The exit code is that of the run.", err=True)
    sys.exit(code)
