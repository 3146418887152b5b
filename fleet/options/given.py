"""What a command is given: the operator's options, before the command's name or after it, and the environment."""

import os
from pathlib import Path
from typing import Any

import rich_click as click
from click.core import ParameterSource

from fleet.environment import CommandOptions, Environment
from fleet.options.shared import TYPED
from fleet.task import Connecting, HostKeys
from fleet.typed_command import TypedCommand, TypedOption


def environment(ctx: click.Context) -> Environment:
    """The environment that a test passes in, or the real one."""
    return ctx.obj if isinstance(ctx.obj, Environment) else Environment()


def command_options(ctx: click.Context, given: dict[str, Any]) -> CommandOptions:
    """The shared options, which are taken out of `given`; the command's own ones stay there."""
    of_all = {name: _merged(ctx, name, given.pop(name, None)) for name in ("inventory", "limit", "verbose", "yes")}
    log_file = given.pop("log_file", None)
    return CommandOptions(
        inventories=tuple(map(Path, of_all["inventory"] or ())),
        limits=tuple(of_all["limit"] or ()),
        verbose=of_all["verbose"] or 0,
        yes=bool(of_all["yes"]),
        output=given.pop("output", "auto"),
        log_file=Path(log_file) if log_file else None,
        parallel=given.pop("parallel", 50),
        journal=given.pop("journal", None),
        lock_wait_s=given.pop("lock_wait", 0.0),
        force=given.pop("force", False),
        connecting=_connecting(given),
        typed=_typed_command(ctx, tuple(of_all["limit"] or ())),
    )


def _typed_command(ctx: click.Context, limits: tuple[str, ...]) -> TypedCommand:
    """The command as it was typed, without a password."""
    arguments = [ctx.params.get(each.name or "") for each in ctx.command.params if isinstance(each, click.Argument)]
    options = (_without_password(TypedOption(name, words)) for name, words in ctx.meta.get(TYPED, ()))
    return TypedCommand(
        ctx.info_name or "", tuple(str(each) for each in arguments if each is not None), tuple(options), limits
    )


def _without_password(typed: TypedOption) -> TypedOption:
    """The option; the URL of a database without what may hold a password."""
    scheme, is_url, rest = typed.words[-1].partition("://")
    if typed.name != "journal" or not is_url:
        return typed
    login, at, place = rest.partition("?")[0].rpartition("@")
    hidden = f"{login.partition(':')[0]}:***" if ":" in login else login
    return typed._replace(words=(*typed.words[:-1], f"{scheme}://{hidden}{at}{place}"))


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
        keep_open=given.pop("keep_open", 0),
    )


def _merged(ctx: click.Context, name: str, own: Any) -> Any:
    """The command's own value and the one from before the command's name.

    The command line beats the environment. An option that may be repeated adds up when it is given in both places.
    """
    if ctx.parent is None or name not in ctx.parent.params:
        return own
    above = ctx.parent.params[name]
    is_typed, is_typed_above = (
        each.get_parameter_source(name) is ParameterSource.COMMANDLINE for each in (ctx, ctx.parent)
    )
    if is_typed and is_typed_above and isinstance(own, tuple):
        return (*above, *own)
    return above if is_typed_above and not is_typed else own or above
