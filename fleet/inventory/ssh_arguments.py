"""Options of ssh's command line in an inventory: `ansible_ssh_args`, `ansible_ssh_common_args`, `ansible_ssh_extra_args`.

Ansible splits each by the shell's rules and runs `ssh ARGS -o Port=… -o User=… COMMON_ARGS EXTRA_ARGS HOST`
(lib/ansible/plugins/connection/ssh.py, `_build_command`); ssh takes the first value of an option and the last `-F`. fleet
hands the same options to `ssh -G`, which says what they mean. An option that fleet would have to carry out itself is
refused by its name; one that changes neither the way to the host nor the login is passed over.
"""

import getopt
import os
import shlex
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fleet.host import SshArguments
from fleet.inventory.tree import Problem, Variable

BEFORE_THE_HOST_S_OWN = "ansible_ssh_args"
AFTER_THEM = ("ansible_ssh_common_args", "ansible_ssh_extra_args")
NAMES = (BEFORE_THE_HOST_S_OWN, *AFTER_THEM)
HONOURED = frozenset("46FJilop")
UNUSED = frozenset("2AaCcEefKkMmnqSTtvXxYy")
"""These change how ssh works, not which machine it reaches or as which user."""
SYNTAX = "1246AaB:b:Cc:D:E:e:F:fGgI:i:J:KkL:l:Mm:NnO:o:P:p:Q:qR:S:sTtVvW:w:XxYyZ"
"""The options of OpenSSH's ssh, old and new; a colon follows one that has a value."""
_FORWARDS = {
    "D": "DynamicForward",
    "L": "LocalForward",
    "R": "RemoteForward",
    "g": "GatewayPorts",
    "w": "Tunnel",
}
_FROM_ADDRESS = "Connect from that address by a ProxyCommand: `-o 'ProxyCommand=nc -s ADDRESS %h %p'`."
_INSTEAD = {
    "B": _FROM_ADDRESS,
    "I": "Add the keys of the token to the agent: `ssh-add -s LIBRARY`.",
    "P": "Write `-o Tag=NAME`.",
    "W": "Go through the bastion with `-J BASTION`.",
    "b": _FROM_ADDRESS,
    **{
        letter: f"fleet forwards no port: leave it out, or write {keyword} in ~/.ssh/config, where fleet passes over it."
        for letter, keyword in _FORWARDS.items()
    },
}


class _Option(NamedTuple):
    letter: str
    value: str

    @property
    def word(self) -> str:
        return f"-{self.letter}{self.value}"


class GivenArguments(NamedTuple):
    """What the variables of a host give ssh. `config`: the file of `-F`. `passed_over`: options that change nothing here."""

    arguments: SshArguments
    config: str | None
    passed_over: tuple[str, ...]
    problems: tuple[Problem, ...]


def given_arguments(variables: Mapping[str, Variable]) -> GivenArguments:
    """The ssh arguments of a host, and what is wrong with them."""
    problems: list[Problem] = []
    first = _options(BEFORE_THE_HOST_S_OWN, variables, problems)
    last = [option for name in AFTER_THEM for option in _options(name, variables, problems)]
    configs = [option.value for option in (*first, *last) if option.letter == "F"]
    return GivenArguments(
        SshArguments(_words(first), _words(last)),
        _path(configs[-1]) if configs else None,
        tuple(dict.fromkeys(f"-{option.letter}" for option in (*first, *last) if option.letter in UNUSED)),
        tuple(problems),
    )


def _options(name: str, variables: Mapping[str, Variable], problems: list[Problem]) -> list[_Option]:
    variable = variables.get(name)
    if variable is None or not isinstance(variable.value, str):
        return []
    try:
        found = _split(variable.value)
    except _BadArguments as error:
        problems.append(Problem(variable.origin, f"{name} {error}.", error.remedy, name))
        return []
    problems.extend(_refusals(name, variable, found))
    return found


def _refusals(name: str, variable: Variable, options: Iterable[_Option]) -> Iterable[Problem]:
    for letter in dict.fromkeys(option.letter for option in options):
        if letter not in HONOURED | UNUSED:
            remedy = _INSTEAD.get(letter, "Leave it out: with it ssh runs no command on the host.")
            message = f"{name} has the option -{letter}, which fleet does not support."
            yield Problem(variable.origin, message, remedy, name)


class _BadArguments(ValueError):
    """What is wrong with a text, after the name of its variable, and what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def _split(text: str) -> list[_Option]:
    """The options of a text, split as Ansible splits it. Raises `_BadArguments`."""
    try:
        words = [word.strip() for word in shlex.split(text) if word.strip()]
    except ValueError as error:
        raise _BadArguments(
            f"can't be split into words: {error}", "Put both quotation marks around a value."
        ) from error
    if not "".join(words).isprintable():
        raise _BadArguments("holds a control character", "Write it in printable characters.")
    try:
        found, rest = getopt.getopt(words, SYNTAX)
    except getopt.GetoptError as error:
        raise _BadArguments(f"is no list of ssh's options: {error.msg}", "Look at `man ssh`.") from error
    if rest:
        raise _BadArguments(
            f"has the word {rest[0]!r}, which belongs to no option",
            "Quote a value with spaces: `-o 'ProxyCommand=ssh -W %h:%p BASTION'`.",
        )
    return [_Option(letter[1:], value) for letter, value in found]


def _words(options: Iterable[_Option]) -> tuple[str, ...]:
    return tuple(option.word for option in options if option.letter in HONOURED - {"F"})


def _path(path: str) -> str:
    return path if path == "none" else os.path.abspath(os.path.expanduser(path))
