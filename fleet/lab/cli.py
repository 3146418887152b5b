"""`fleet lab`: the commands of the lab, as `fleet.cli` mounts them. Words in, words out; what is done is in `commands`."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich_click as click

from fleet.lab import commands
from fleet.lab.kinds.all_kinds import KINDS


def option(*names: str, env: str, **settings: Any) -> Callable[[Any], Any]:
    """An option with its environment variable and its default in the help."""
    return click.option(*names, envvar=f"FLEET_LAB_{env}", show_envvar=True, show_default=True, **settings)


NAMED = option(
    "--name",
    env="NAME",
    default=commands.DEFAULT_NAME,
    help="Which lab: several can be up beside each other.",
)
HOSTS = click.argument("hosts", metavar="HOST...", nargs=-1, required=True)


@click.group()
def lab() -> None:
    """Real sshd and real nginx on pretend hosts of this machine, to try everything on."""


@lab.command()
@click.argument("count", metavar="[N]", type=click.IntRange(1, 1000), default=6)
@option(
    "--with",
    "wanted",
    env="WITH",
    metavar="KIND[=HOST|=N]",
    multiple=True,
    help="Odd hosts (repeatable): see `lab kinds`.",
)
@option(
    "--show",
    env="SHOW",
    metavar="FOLDER",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    help="A folder of this machine that the hosts see too, read-only (repeatable).",
)
@NAMED
def up(count: int, wanted: tuple[str, ...], show: tuple[str, ...], name: str) -> None:
    """Bring up a lab of N hosts (6 unless said otherwise); it stays until `down`."""
    began = time.monotonic()
    made = commands.up(count, name, wanted, show=show)
    took_s = time.monotonic() - began
    inventory = commands.inventory_copy(name) or made.inventory
    click.echo(
        f"lab {name}: {count} hosts up in {took_s:.1f} s, {made.hosts[0].name} .. {made.hosts[-1].name}", err=True
    )
    for host in made.hosts:
        if host.kind != "plain":
            click.echo(f"  {host.name}: {host.kind}: {KINDS[host.kind or 'plain'].summary}", err=True)
    click.echo(f"fleet -i {inventory} status")
    click.echo(f"ssh -F {made.ssh_config} {made.hosts[0].name}")


@lab.command("kinds")
def list_kinds() -> None:
    """List the kinds of odd hosts that `up --with` makes."""
    for kind in KINDS.values():
        click.echo(f"{kind.name:20}{kind.summary}")


@lab.command()
@NAMED
def down(name: str) -> None:
    """Take a lab down: no process, mount, namespace or link of it is left, however it came to be."""
    there_was = commands.down(name)
    click.echo(f"lab {name}: {'down' if there_was else 'there was none'}", err=True)


@lab.command()
@option("--name", env="NAME", help="Which lab; all of them unless given.")
@option("--json", "as_json", env="JSON", is_flag=True, help="One JSON document.")
def status(name: str | None, as_json: bool) -> None:
    """Show the labs of this machine and their hosts."""
    views = commands.status(name)
    if as_json:
        click.echo(json.dumps({"schema": "fleet.lab/1", "labs": [_plain(view) for view in views]}, indent=1))
        return
    if not views:
        click.echo("no lab is up", err=True)
    for view in views:
        owner = f", belongs to process {view.owner_pid}" if view.owner_pid else ""
        click.echo(f"lab {view.name}: {len(view.hosts)} hosts in {view.subnet or 'no subnet'}{owner}: {view.inventory}")
        if view.trouble:
            click.echo(f"  {view.trouble}")
        for host in view.hosts:
            ports = f"{'ssh' if host.has_ssh else '-':4}{'http' if host.serves else '-':5}"
            click.echo(f"  {host.name}  {host.address:15}  {host.power.value:4} {ports} {host.kind}")


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("host")
@click.argument("argv", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@NAMED
@click.pass_context
def exec_(context: click.Context, host: str, argv: tuple[str, ...], name: str) -> None:
    """Run a command as root on a host; its exit code is ours."""
    context.exit(commands.exec_(name, host, argv))


@lab.command()
@HOSTS
@NAMED
def cut(hosts: tuple[str, ...], name: str) -> None:
    """Pull the hosts' network cables: the line is dead, and no end is told."""
    commands.cut(name, hosts)


@lab.command()
@HOSTS
@NAMED
def heal(hosts: tuple[str, ...], name: str) -> None:
    """Plug the hosts' network cables in again."""
    commands.heal(name, hosts)


@lab.command()
@HOSTS
@option("--rate", env="RATE", metavar="RATE", help="Each way, like 10mbit or 512kbit; not limited unless given.")
@option("--loss", env="LOSS", default="0", metavar="PERCENT", help="Packets lost each way, like 1% or 0.5.")
@NAMED
def slow(hosts: tuple[str, ...], rate: str | None, loss: str, name: str) -> None:
    """Make the hosts' lines slow or lossy; with no option they are as they were."""
    try:
        loss_percent = float(loss.removesuffix("%"))
    except ValueError:
        raise click.BadParameter(f"{loss!r} is no percentage; write it like 1% or 0.5.", param_hint="--loss") from None
    commands.slow(name, hosts, rate, loss_percent)


@lab.command()
@HOSTS
@NAMED
def kill(hosts: tuple[str, ...], name: str) -> None:
    """Pull the hosts' power plugs. Their disks stay: `boot` starts what was on them."""
    commands.kill(name, hosts)


@lab.command()
@HOSTS
@NAMED
def boot(hosts: tuple[str, ...], name: str) -> None:
    """Switch the hosts on."""
    commands.boot(name, hosts)


@lab.command()
@click.argument("kind")
@option(
    "-o",
    "--output",
    "out",
    env="OUTPUT",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where to.",
)
@option(
    "--version",
    env="VERSION",
    metavar="X.Y.Z",
    help="What `nginx -v` and the Server header say (same length as before).",
)
@option("--size", "size_bytes", env="SIZE", metavar="BYTES", type=click.IntRange(1), help="Pad the file to this size.")
def release(kind: str, out: Path, version: str | None, size_bytes: int | None) -> None:
    """Make a release from this machine's nginx, good (`new`) or bad in a way that its KIND says:

    new, truncated, wrong-arch, not-executable, missing-lib, bad-config, crash-workers, hang-workers, crash-on-request,
    hung-master, errors.
    """
    # Late: it needs an ELF reader, which no other command of the lab does.
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
