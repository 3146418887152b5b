"""The options that commands share, each declared once: a sentence, its default, its environment variable, its group.

The options of all commands may stand before the command or after it: `fleet -i hosts.yaml status`, `fleet status -i
hosts.yaml`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import rich_click as click
from click.core import ParameterSource

from fleet.options.help_layout import CONNECTION, HOSTS, LOCKS, OUTPUT, SAFETY
from fleet.options.value_types import ByteRate, Duration

Decorator = Callable[[Any], Any]
TYPED = "fleet.typed_options"
"""Where click's context, which a group shares with its command, keeps the options as they were typed: name and words."""


class OptionAsTyped(click.RichOption):
    """An option that remembers its words, so that a message can print the whole command again."""

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """The value before its conversion, and where it comes from."""
        value, source = super().consume_value(ctx, opts)
        if source is ParameterSource.COMMANDLINE:
            ctx.meta.setdefault(TYPED, []).extend((self.name or "", words) for words in self._words(value))
        return value, source

    def _words(self, value: Any) -> Iterator[tuple[str, ...]]:
        """The words of each time that the option was typed, with its shortest name."""
        if self.count:
            yield from [(self.opts[0],)] * int(value)
        elif self.is_flag:
            yield (self.opts[0] if value else self.secondary_opts[0],)
        else:
            yield from ((self.opts[0], str(each)) for each in (value if self.multiple else [value]))


def option(*names: str, env: str, panel: str, **settings: Any) -> Decorator:
    """An option that shows its environment variable, `FLEET_` and `env`, and its default in the help."""
    return click.option(
        *names,
        cls=OptionAsTyped,
        envvar=f"FLEET_{env}",
        panel=panel,
        **{"show_envvar": True, "show_default": True, **settings},
    )


def together(*options: Decorator) -> Decorator:
    """The options as one decorator, in their order."""

    def decorate(command: Any) -> Any:
        for each in reversed(options):
            command = each(command)
        return command

    return decorate


def argument(name: str, help: str, **settings: Any) -> Decorator:
    """A command's argument; the help shows it first, by its name alone."""
    return click.argument(name, help=help, **settings)


rollout_argument = argument(
    "rollout", "The rollout's id, or a unique start of it; without it, the newest rollout.", required=False
)
release_argument = argument(
    "release", "The path of an nginx binary, or the first 8 or more digits of a SHA-256 that the hosts keep."
)
host_options = together(
    option(
        "-i",
        "--inventory",
        env="INVENTORY",
        panel=HOSTS,
        multiple=True,
        type=click.Path(),
        show_default="none",
        help="Read the hosts from this Ansible inventory: a file, a directory, an executable, or a list such as "
        "web-01,web-02. Repeat it to merge several; the last one wins.",
    ),
    option(
        "-l",
        "--limit",
        env="LIMIT",
        panel=HOSTS,
        multiple=True,
        metavar="PATTERN",
        show_default="all hosts",
        help="Work on these hosts only. PATTERN is one of Ansible's: web*, web:&eu, '!web-07', @FILE. Repeatable.",
    ),
)
confirm_option = option(
    "-y",
    "--yes",
    env="YES",
    panel=SAFETY,
    is_flag=True,
    help="Do not ask for confirmation. Required without a terminal.",
)
parallel_option = option(
    "--parallel",
    env="PARALLEL",
    panel=CONNECTION,
    metavar="N",
    type=click.IntRange(1, 1000),
    default=50,
    help="How many hosts to visit at the same time. In a rollback, a host that does not answer within 3 s does not count.",
)
ssh_options = together(
    option(
        "-F",
        "--ssh-config",
        env="SSH_CONFIG",
        panel=CONNECTION,
        metavar="FILE",
        show_default="OpenSSH's own files",
        help="Read this ssh_config file and no other, as ssh -F does; none reads no file at all.",
    ),
    option(
        "--host-keys",
        env="HOST_KEYS",
        panel=CONNECTION,
        metavar="POLICY",
        type=click.Choice(["strict", "accept-new"]),
        show_default="as ssh_config says, else strict",
        help="Refuse (strict) or store (accept-new) a host key that is not known yet. A changed key is always refused.",
    ),
)
connection_options = together(
    parallel_option,
    ssh_options,
    option(
        "-k",
        "--ask-pass",
        env="ASK_PASS",
        panel=CONNECTION,
        is_flag=True,
        help="Ask once for the login password, and try it on hosts that accept none of your keys.",
    ),
    option(
        "-K",
        "--ask-become-pass",
        env="ASK_BECOME_PASS",
        panel=CONNECTION,
        is_flag=True,
        help="Ask once for the password that sudo or doas wants.",
    ),
    option(
        "--become-password-file",
        env="BECOME_PASSWORD_FILE",
        panel=CONNECTION,
        metavar="FILE",
        show_default="none",
        help="Read the password for sudo or doas from the first line of this file. Only you may have access to the file.",
    ),
    option(
        "--transfer",
        env="TRANSFER",
        panel=CONNECTION,
        metavar="HOW",
        type=click.Choice(["auto", "sftp", "scp", "exec"]),
        default="auto",
        help="How to upload the release: exec (over the connection's own command), sftp (which scp itself uses today), scp "
        "(the old SCP protocol), or auto, which is exec. With sudo or doas it is always exec.",
    ),
    option(
        "--limit-rate",
        env="LIMIT_RATE",
        panel=CONNECTION,
        type=ByteRate(),
        metavar="RATE",
        show_default="no limit",
        help="Limit all uploads together to this many bytes per second, such as 500k or 2M.",
    ),
    option(
        "--keep-open",
        env="KEEP_OPEN",
        panel=CONNECTION,
        type=click.IntRange(min=0),
        metavar="N",
        default=1000,
        help="Keep at most N connections open for the next visits of this run; 0 logs in for each visit.",
    ),
)
journal_option = option(
    "--journal",
    env="JOURNAL",
    panel=LOCKS,
    metavar="LOCATION",
    show_default="journal.db in your state directory, such as ~/.local/state/fleet",
    help="Where the journal is: the path of a SQLite file, or a database URL.",
)
lock_options = together(
    journal_option,
    option(
        "--lock-wait",
        env="LOCK_WAIT",
        panel=LOCKS,
        type=Duration(),
        default="0s",
        help="How long to wait for another run that holds the journal or a host.",
    ),
    option(
        "--force",
        env="FORCE",
        panel=LOCKS,
        is_flag=True,
        help="Take the journal and the hosts over from another run. A run that loses the journal's lock halts.",
    ),
)
output_option = option(
    "--output",
    env="OUTPUT",
    panel=OUTPUT,
    metavar="FORM",
    type=click.Choice(["auto", "live", "plain", "jsonl"]),
    default="auto",
    help="How to show progress: live (a view that updates), plain (a line per event), jsonl (JSON lines on stdout), or "
    "auto (live on a terminal, else plain).",
)
verbose_option = option(
    "-v", "--verbose", env="VERBOSE", panel=OUTPUT, count=True, metavar="", show_default="off", help="Show every step."
)
progress_options = together(
    output_option,
    option(
        "--log-file",
        env="LOG_FILE",
        panel=OUTPUT,
        metavar="FILE",
        type=click.Path(dir_okay=False),
        show_default="none",
        help="Append every event to this file, as JSON lines.",
    ),
    verbose_option,
)
json_option = option(
    "--json", "as_json", env="JSON", panel=OUTPUT, is_flag=True, help="Print one JSON document on stdout."
)
