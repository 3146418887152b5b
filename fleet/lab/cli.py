"""`fleet lab`: the commands of the lab, declared for `fleet.cli`. `fleet.lab.commands` does the work."""

import json
import time
from pathlib import Path
from typing import Any

import rich_click as click

from fleet.lab import commands
from fleet.lab.kinds.all_kinds import KINDS
from fleet.options import shared
from fleet.options.help_layout import ERRORS, LAB, OUTPUT
from fleet.options.help_page import HelpedGroup
from fleet.options.shared import Decorator, argument


def option(*names: str, env: str, panel: str = LAB, **settings: Any) -> Decorator:
    """An option of the lab, whose environment variable is `FLEET_LAB_` and `env`."""
    return shared.option(*names, env=f"LAB_{env}", panel=panel, **settings)


NAMED = option(
    "--name",
    env="NAME",
    default=commands.DEFAULT_NAME,
    help="The name of the lab. Several labs can be up at the same time.",
)
HOSTS = argument(
    "hosts", "The names of hosts, as fleet lab status shows them.", metavar="HOST...", nargs=-1, required=True
)


class InDeclaredOrder(HelpedGroup):
    """A group that lists its commands in the order of their declaration."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=InDeclaredOrder, context_settings={"help_option_names": ["-h", "--help"], "rich_help_config": ERRORS})
def lab() -> None:
    """Run real sshd and nginx on pretend hosts of this machine.

    Use it to try fleet, and to break hosts on purpose. It needs root, and sshd and nginx installed.

    \b
    Example:
      sudo fleet lab up 6
    """


@lab.command()
@argument("n", "How many hosts; 6 without it.", metavar="[N]", type=click.IntRange(1, 1000), default=6)
@option(
    "--with",
    "wanted",
    env="WITH",
    metavar="KIND",
    multiple=True,
    show_default="none",
    help="Make a host of this kind, which fleet lab kinds lists; KIND=N makes N of them, KIND=HOST the named one. "
    "Repeatable. systemd alone is for every host that has no other kind.",
)
@option(
    "--show",
    env="SHOW",
    metavar="FOLDER",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    show_default="none",
    help="Show this folder of the machine to the hosts, read-only. Repeatable.",
)
@NAMED
def up(n: int, wanted: tuple[str, ...], show: tuple[str, ...], name: str) -> None:
    """Start a lab of N hosts.

    It stays up until fleet lab down. The last lines printed are the fleet and the ssh command to reach it.

    \b
    Examples:
      sudo fleet lab up 6
      sudo fleet lab up 20 --with daemon-off=2
      sudo fleet lab up 4 --with systemd
    """
    began = time.monotonic()
    made = commands.up(n, name, wanted, show=show)
    took_s = time.monotonic() - began
    inventory = commands.inventory_copy(name) or made.inventory
    click.echo(
        f"Lab {name} is up after {took_s:.1f} s: {n} hosts, {made.hosts[0].name} to {made.hosts[-1].name}.", err=True
    )
    for host in made.hosts:
        if host.kind != "plain":
            click.echo(f"  {host.name}: {host.kind}: {KINDS[host.kind or 'plain'].summary}", err=True)
    click.echo(f"fleet -i {inventory} status")
    click.echo(f"ssh -F {made.ssh_config} {made.hosts[0].name}")


@lab.command("kinds")
def list_kinds() -> None:
    """List the kinds of hosts that fleet lab up --with can make.

    \b
    Example:
      fleet lab kinds
    """
    for kind in KINDS.values():
        click.echo(f"{kind.name:25}{kind.summary}")


@lab.command()
@NAMED
def down(name: str) -> None:
    """Stop a lab and remove its hosts.

    No process, mount, namespace or network link of it is left, also after a start that failed half-way.

    \b
    Example:
      sudo fleet lab down
    """
    there_was = commands.down(name)
    click.echo(f"Lab {name} is down." if there_was else f"There was no lab {name}.", err=True)


@lab.command()
@option("--name", env="NAME", show_default="all labs", help="The name of the lab.")
@option("--json", "as_json", env="JSON", panel=OUTPUT, is_flag=True, help="Print one JSON document on stdout.")
def status(name: str | None, as_json: bool) -> None:
    """Show the labs of this machine and their hosts.

    \b
    Example:
      sudo fleet lab status
    """
    views = commands.status(name)
    if as_json:
        click.echo(json.dumps({"schema": "fleet.lab/1", "labs": [_plain(view) for view in views]}, indent=1))
        return
    if not views:
        click.echo("No lab is up. Start one: fleet lab up.", err=True)
    for view in views:
        owner = f", belongs to process {view.owner_pid}" if view.owner_pid else ""
        click.echo(f"lab {view.name}: {len(view.hosts)} hosts in {view.subnet or 'no subnet'}{owner}: {view.inventory}")
        if view.trouble:
            click.echo(f"  {view.trouble}")
        for host in view.hosts:
            ports = f"{'ssh' if host.has_ssh else '-':4}{'http' if host.serves else '-':5}"
            click.echo(f"  {host.name}  {host.address:15}  {host.power.value:4} {ports} {host.kind}")


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@argument("host", "The name of a host, as fleet lab status shows it.")
@argument(
    "command",
    "The command and its arguments.",
    metavar="-- COMMAND...",
    nargs=-1,
    required=True,
    type=click.UNPROCESSED,
)
@NAMED
@click.pass_context
def exec_(context: click.Context, host: str, command: tuple[str, ...], name: str) -> None:
    """Run a command as root on a host.

    The exit code is the command's own.

    \b
    Example:
      sudo fleet lab exec lab-001 -- nginx -T
    """
    context.exit(commands.exec_(name, host, command))


@lab.command()
@HOSTS
@NAMED
def cut(hosts: tuple[str, ...], name: str) -> None:
    """Cut the hosts off the network.

    Packets are dropped and neither end gets an error, as when a cable is pulled.

    \b
    Example:
      sudo fleet lab cut lab-001
    """
    commands.cut(name, hosts)


@lab.command()
@HOSTS
@NAMED
def heal(hosts: tuple[str, ...], name: str) -> None:
    """Connect hosts again that were cut off the network.

    \b
    Example:
      sudo fleet lab heal lab-001
    """
    commands.heal(name, hosts)


@lab.command()
@HOSTS
@option(
    "--rate",
    env="RATE",
    metavar="RATE",
    show_default="no limit",
    help="The bandwidth in each direction, such as 10mbit or 512kbit.",
)
@option(
    "--loss",
    env="LOSS",
    default="0",
    metavar="PERCENT",
    help="The share of packets lost in each direction, such as 1% or 0.5.",
)
@NAMED
def slow(hosts: tuple[str, ...], rate: str | None, loss: str, name: str) -> None:
    """Make the hosts' network slow or lossy.

    Without an option the network is as fast as it was.

    \b
    Example:
      sudo fleet lab slow lab-001 --rate 512kbit --loss 1%
    """
    try:
        loss_percent = float(loss.removesuffix("%"))
    except ValueError:
        raise click.BadParameter(f"{loss!r} is not a percentage. Write it as 1% or 0.5.", param_hint="--loss") from None
    commands.slow(name, hosts, rate, loss_percent)


@lab.command()
@HOSTS
@NAMED
def kill(hosts: tuple[str, ...], name: str) -> None:
    """Power hosts off at once.

    Their disks stay as they are; fleet lab boot starts the hosts again from them.

    \b
    Example:
      sudo fleet lab kill lab-001
    """
    commands.kill(name, hosts)


@lab.command()
@HOSTS
@NAMED
def boot(hosts: tuple[str, ...], name: str) -> None:
    """Power hosts on.

    \b
    Example:
      sudo fleet lab boot lab-001
    """
    commands.boot(name, hosts)


@lab.command()
@argument("kind", "new for a good release; the others are bad, each in the way its name says.")
@option(
    "-o",
    "--output",
    "out",
    env="OUTPUT",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    show_default="required",
    help="Write the release to this file.",
)
@option(
    "--version",
    env="VERSION",
    metavar="X.Y.Z",
    show_default="1.22.9",
    help="The version that nginx -v and the Server header show. It has as many characters as the real one.",
)
@option(
    "--size",
    "size_bytes",
    env="SIZE",
    metavar="BYTES",
    type=click.IntRange(1),
    show_default="as it is",
    help="Pad the file to this size.",
)
def release(kind: str, out: Path, version: str | None, size_bytes: int | None) -> None:
    """Make a release from this machine's nginx, good or bad.

    KIND is one of: new, truncated, wrong-arch, not-executable, missing-lib, bad-config, crash-workers, hang-workers,
    crash-on-request, hung-master, errors.

    \b
    Example:
      fleet lab release crash-workers -o ./nginx-bad
    """
    # Imported here because it needs an ELF reader, which no other command of the lab does.
    from fleet.lab.releases.build import DEFAULT_VERSION, make_release

    click.echo(make_release(kind, out, version=version or DEFAULT_VERSION, size_bytes=size_bytes))


def _plain(view: commands.LabView) -> dict[str, object]:
    return {
        "name": view.name,
        "subnet": view.subnet,
        "owner_pid": view.owner_pid,
        "inventory": str(view.inventory),
        "trouble": view.trouble,
        "hosts": [
            {
                "name": host.name,
                "address": host.address,
                "power": host.power.value,
                "kind": host.kind,
                "serves": host.serves,
                "has_ssh": host.has_ssh,
            }
            for host in view.hosts
        ],
    }
