"""The options that commands share: each with its environment variable and its default in the help, each declared once.

Options of all commands may stand before the command or after it: `fleet -i hosts.yaml status`, `fleet status -i hosts.yaml`.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import rich_click as click
from click.core import ParameterSource

from fleet.environment import CommandOptions
from fleet.errors import FleetError
from fleet.task import Connecting, HostKeys


class Duration(click.ParamType[float]):
    """`30s`, `10m`, `1h30m`; becomes seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from fleet.plan import parse_duration

        try:
            return value if isinstance(value, float) else parse_duration(str(value))
        except FleetError as error:
            self.fail(str(error), param, ctx)


class ByteRate(click.ParamType[float]):
    """`500k`, `2M`, `1.5m`, as curl has it; becomes bytes a second."""

    name = "rate"
    _UNITS: ClassVar[dict[str, int]] = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([0-9]+(?:[.][0-9]+)?)([BKMG]?)", str(value).strip().upper())
        rate = float(found[1]) * self._UNITS[found[2]] if found else 0.0
        if rate <= 0:
            self.fail(f"{value!r} is no rate: write 500k or 2M (bytes a second).", param, ctx)
        return rate


def option(*names: str, env: str, **settings: Any) -> Callable[[Any], Any]:
    """An option with its environment variable and its default in the help."""
    return click.option(*names, envvar=f"FLEET_{env}", **{"show_envvar": True, "show_default": True, **settings})


def override(*names: str, env: str, **settings: Any) -> Callable[[Any], Any]:
    """An option of `resume` that is only looked at when it is given."""
    settings.setdefault("help", "Other than the rollout began.")
    return option(*names, env=env, **{"default": None, **settings})


def _together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for each in reversed(options):
            command = each(command)
        return command

    return decorate


selection_options = _together(
    option(
        "-i", "--inventory", env="INVENTORY", multiple=True, type=click.Path(path_type=Path), help="Inventory file."
    ),
    option("-l", "--limit", env="LIMIT", multiple=True, help="Host patterns: web*, web:&eu, '!web-07', @file."),
    option("-v", "--verbose", env="VERBOSE", count=True, metavar="", help="Tell every step."),
)
host_options = _together(
    option(
        "--parallel",
        env="PARALLEL",
        type=click.IntRange(1, 1000),
        default=50,
        help="How many hosts are visited at a time.",
    ),
    option(
        "-F",
        "--ssh-config",
        env="SSH_CONFIG",
        metavar="FILE",
        help="Read this file, and no other, as ssh does with -F; none: no file at all.",
    ),
    option(
        "--host-keys",
        env="HOST_KEYS",
        type=click.Choice([each.value for each in HostKeys]),
        show_default="as ssh_config says, else strict",
        help="What becomes of a host key that is not known yet. One that has changed is always refused.",
    ),
)
connection_options = _together(
    host_options,
    option(
        "-k",
        "--ask-pass",
        env="ASK_PASS",
        is_flag=True,
        help="Ask once for the login's password, and try it on hosts that no key lets us into.",
    ),
    option(
        "--transfer",
        env="TRANSFER",
        type=click.Choice(["auto", "sftp", "scp", "exec"]),
        default="auto",
        help="How files are uploaded: by SFTP (what scp itself uses today), by the old SCP protocol, or through a "
        "plain command (exec); auto tries them in turn. Under sudo it is always exec.",
    ),
    option(
        "--limit-rate",
        env="LIMIT_RATE",
        type=ByteRate(),
        metavar="RATE",
        show_default="no limit",
        help="How fast all uploads together may go, in bytes a second: 500k, 2M.",
    ),
    option(
        "-K",
        "--ask-become-pass",
        env="ASK_BECOME_PASS",
        is_flag=True,
        help="Ask once for the password by which the logins become root (sudo, doas).",
    ),
    option(
        "--become-password-file",
        env="BECOME_PASSWORD_FILE",
        metavar="FILE",
        help="Read that password from the first line of this file, which nobody else may read.",
    ),
)
confirm_option = option("-y", "--yes", env="YES", is_flag=True, help="Do not ask.")
journal_option = option(
    "--journal",
    env="JOURNAL",
    metavar="FILE|URL",
    help="The journal: a SQLite file or a database URL; if not given, journal.db in the user's state directory.",
)
lock_options = _together(
    option(
        "--lock-wait",
        env="LOCK_WAIT",
        type=Duration(),
        default="0s",
        help="How long to wait for another run to end, of this journal or on a host.",
    ),
    option(
        "--force",
        env="FORCE",
        is_flag=True,
        help="Take the locks over, here and on hosts. Here, who has it turns back.",
    ),
)
lease_option = option(
    "--lease",
    "lease_s",
    env="LEASE",
    type=Duration(),
    show_default="10m; off with --commit never",
    help="Each host goes back by itself when nobody has visited or committed it for so long; off: never.",
)
output_option = option(
    "--output",
    env="OUTPUT",
    type=click.Choice(["auto", "live", "plain", "jsonl"]),
    default="auto",
    help="How events are told.",
)
progress_options = _together(
    output_option,
    option(
        "--log-file", env="LOG_FILE", type=click.Path(path_type=Path, dir_okay=False), help="Append every event to it."
    ),
)
json_option = option("--json", "as_json", env="JSON", is_flag=True, help="One JSON document on stdout.")


def drain_options(wait: str) -> Callable[[Any], Any]:
    """The options about old connections; `wait` says who waits for which."""
    return _together(
        option("--drain-timeout", env="DRAIN_TIMEOUT", type=Duration(), default="10m", help=wait),
        option("--cut", env="CUT", is_flag=True, help="End the connections that are left then."),
    )


COMMIT_WAITS = "How long commit waits for the old master's connections."
ROLLBACK_WAITS = "Where the upgrade was committed: how long the release that goes waits for its connections."
OVERRIDABLE = "memory-short, modules-gone, not-checked, path-differs, pending-config, poisoned, quic"
allow_option = option(
    "--allow",
    env="ALLOW",
    multiple=True,
    metavar="REASON",
    help=f"Go on in spite of this refusal (recorded). REASON is one of: {OVERRIDABLE}.",
)


def command_options(ctx: click.Context, given: dict[str, Any]) -> CommandOptions:
    """What all commands are given, before the command's name or after it."""
    above = {name: _from_above(ctx, name, given.pop(name, None)) for name in ("inventory", "limit", "verbose", "yes")}
    return CommandOptions(
        inventories=tuple(above["inventory"] or ()),
        limits=tuple(above["limit"] or ()),
        verbose=above["verbose"] or 0,
        yes=bool(above["yes"]),
        output=given.pop("output", "auto"),
        log_file=given.pop("log_file", None),
        parallel=given.pop("parallel", 50),
        journal=given.pop("journal", None),
        lock_wait_s=given.pop("lock_wait", 0.0),
        force=given.pop("force", False),
        connecting=_connecting(given),
    )


def _connecting(given: dict[str, Any]) -> Connecting:
    config, host_keys = given.pop("ssh_config", None), given.pop("host_keys", None)
    password_file = given.pop("become_password_file", None)
    return Connecting(
        # The worker that reads it may have another working directory.
        ssh_config=config if config in (None, "none") else os.path.abspath(os.path.expanduser(config)),
        host_keys=HostKeys(host_keys) if host_keys else None,
        transfer=given.pop("transfer", "auto"),
        ask_password=given.pop("ask_pass", False),
        ask_become_pass=bool(given.pop("ask_become_pass", False)),
        become_password_file=os.path.abspath(os.path.expanduser(password_file)) if password_file else None,
        limit_rate=given.pop("limit_rate", None),
    )


def _from_above(ctx: click.Context, name: str, own: Any) -> Any:
    """The command's own value and the one before the command's name: what was typed beats the environment, and what
    was typed in both places adds up where the option may be repeated."""
    if ctx.parent is None or name not in ctx.parent.params:
        return own
    above = ctx.parent.params[name]
    is_typed, is_typed_above = (
        each.get_parameter_source(name) is ParameterSource.COMMANDLINE for each in (ctx, ctx.parent)
    )
    if is_typed and is_typed_above and isinstance(own, tuple):
        return (*above, *own)
    return above if is_typed_above and not is_typed else own or above
