"""The command that the operator typed, and the complete lines that messages give to type next.

A line in a message can be copied and run: it names the inventory, the ssh configuration and the journal that the operator
named. Options from the environment (`FLEET_…`) are not repeated, because the next command has them as well. No password is
ever part of a line.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

REACH = frozenset(
    {
        *("inventory", "ssh_config", "host_keys", "parallel", "ask_pass", "ask_become_pass", "become_password_file"),
        *("transfer", "limit_rate", "keep_open"),
    }
)
"""The options that say which hosts there are and how fleet reaches them."""
CARRIED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        **dict.fromkeys(("upgrade", "commit", "rollback", "resume"), REACH | {"journal", "yes"}),
        **dict.fromkeys(("check", "status"), REACH),
        "unlock": REACH | {"journal"},
        **dict.fromkeys(("show", "history"), frozenset({"journal"})),
    }
)
"""The options that the line of another command takes over from the command that was typed."""
OF_A_ROLLOUT = frozenset({"commit", "rollback", "resume"})
"""The commands that take a rollout, and that `--limit` narrows to some of its hosts."""
LONGEST_LINE = 3000


class TypedOption(NamedTuple):
    """An option as it was typed: the parameter's name in the code, and its words, such as `-i hosts.yaml`."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TypedCommand:
    """The operator's command. `limits` are the patterns of `--limit` in force, from the environment too."""

    command: str = "upgrade"
    arguments: tuple[str, ...] = ("RELEASE",)
    options: tuple[TypedOption, ...] = ()
    limits: tuple[str, ...] = ()

    def of(self, rollout: str) -> "TypedCommand":
        """The command with the full id of its rollout, whatever start of it was typed; an upgrade as it is."""
        return replace(self, arguments=(rollout,)) if self.command in OF_A_ROLLOUT else self

    def having(self, name: str, *words: str) -> "TypedCommand":
        """The command with this option in place of any earlier one of its name."""
        others = tuple(each for each in self.options if each.name != name)
        return replace(self, options=(*others, TypedOption(name, words)))

    def without(self, hosts: Iterable[str]) -> "TypedCommand":
        """The command that leaves these hosts out. Ansible's patterns are one expression, so an exclusion may come last."""
        others = tuple(each for each in self.options if each.name != "limit")
        patterns = (*self.limits, ",".join(f"!{host}" for host in hosts))
        typed = tuple(TypedOption("limit", ("-l", pattern)) for pattern in patterns)
        return replace(self, options=(*others, *typed))

    def other(self, command: str, *arguments: str, of_another: bool = False) -> "TypedCommand":
        """Another command, which reaches the hosts in the same way. A narrower choice of the rollout's hosts stays.

        `of_another`: the other command is about another rollout.
        """
        kept = CARRIED[command]
        if command in OF_A_ROLLOUT and self.command in OF_A_ROLLOUT and not of_another:
            kept |= {"limit"}
        return replace(
            self,
            command=command,
            arguments=arguments,
            options=tuple(each for each in self.options if each.name in kept),
        )

    def after_check(self, command: str) -> "TypedCommand":
        """This check, as the other command on the same hosts, with the same release and what was allowed."""
        kept = REACH | {"limit", "allow", "rehearse"}
        return replace(self, command=command, options=tuple(each for each in self.options if each.name in kept))

    def __str__(self) -> str:
        """The line, quoted for the shell."""
        options = [word for each in self.options for word in each.words]
        if any(argument.startswith("-") for argument in self.arguments):
            return shlex.join(["fleet", self.command, *options, "--", *self.arguments])
        return shlex.join(["fleet", self.command, *self.arguments, *options])

    @property
    def quoted(self) -> str:
        """The line as messages show it: between backticks."""
        return f"`{self}`"

    def to_plain(self) -> dict[str, Any]:
        """The command as plain JSON, for the rollout's first event."""
        return {
            "command": self.command,
            "arguments": list(self.arguments),
            "options": [[each.name, *each.words] for each in self.options],
            "limits": list(self.limits),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "TypedCommand":
        """The command from what `to_plain` gave; the default if an older fleet wrote none."""
        if not plain:
            return cls()
        options: Sequence[Sequence[str]] = plain["options"]
        return cls(
            plain["command"],
            tuple(plain["arguments"]),
            tuple(TypedOption(name, tuple(words)) for name, *words in options),
            tuple(plain["limits"]),
        )


UNTYPED = TypedCommand()
"""The command line of a run that no command began."""
