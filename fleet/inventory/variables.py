"""Builds a `Host` of the variables that an inventory has for it: connection, nginx layout, settings, labels.

`HostValues` lists what fleet reads. Any other name of `fleet_…` is refused, any other of `ansible_…` is judged by
`ansible_variables.py`, and every other is a label. What is wrong with a host matters only if it is selected.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from fleet.host import Host
from fleet.inventory import host_values
from fleet.inventory.ansible_variables import ALIASES, CONFLICTS, Password, When
from fleet.inventory.host_values import KNOWN, NGINX_VARIABLES, HostValues, plain_values, without_collection
from fleet.inventory.nearest import did_you_mean
from fleet.inventory.ssh_arguments import given_arguments
from fleet.inventory.tree import VARIABLE_FOLDERS, Origin, Problem, Unknown, Variable
from fleet.onhost.protocol import Layout

CONNECTIONS = ("ssh", "smart", "paramiko", "paramiko_ssh")
_ONLY_WITH_BECOME = ("ansible_become_method", "ansible_become_user")
_TRUE = ("true", "yes", "y", "t", "on", "1")
_UNKNOWN = {
    Unknown.JINJA: "a Jinja template, which fleet does not render",
    Unknown.VAULT: "in vault, which fleet does not open",
}
_PLAINLY = "Write the value itself there, or in host_vars/HOST.yml."


class BuiltHost(NamedTuple):
    """A host, or `None` and what is wrong with it.

    `ignored` names Ansible's variables that fleet does not use, `passed_over` the options of ssh in those that it uses.
    """

    host: Host | None
    problems: tuple[Problem, ...]
    ignored: tuple[str, ...]
    passed_over: tuple[str, ...] = ()


def name_problems(variables: Iterable[tuple[str, Variable]]) -> Iterator[Problem]:
    """The problems of the names, whichever host they are for: fleet's own settings are a short list."""
    for name, variable in variables:
        if not name or not name.isprintable():
            yield Problem(variable.origin, f"{name!r} is not a valid variable name; allowed: printable characters.")
        elif name.startswith("fleet_") and name not in KNOWN:
            allowed = [known for known in KNOWN if known.startswith("fleet_")]
            guess = did_you_mean(name, allowed)
            yield Problem(variable.origin, f"{name} is unknown{guess}; allowed: {', '.join(allowed)}.")


def build_host(
    name: str,
    variables: Mapping[str, Variable],
    *,
    groups: tuple[str, ...],
    origin: Origin,
    passwords: frozenset[Password] = frozenset(),
) -> BuiltHost:
    """The host that the merged variables describe. `passwords` are those that the command is given, or does not need."""
    known, spelt, problems = _canonical(variables)
    ignored = tuple(_ignored(variables, known))
    other = _other_connection(known.get("ansible_connection"))
    if other is not None:
        return BuiltHost(None, (other,), ignored)
    given = given_arguments({key: variable for key, variable in known.items() if not variable.unknown})
    problems += [*_unknown_values(known, spelt), *_conflicts(variables, known, passwords), *given.problems]
    model, wrong = (None, ()) if problems else _checked(known, spelt)
    if model is None:
        return BuiltHost(None, (*problems, *wrong), ignored)
    labels = sorted((key, variable) for key, variable in variables.items() if is_label(key))
    host = Host(
        name=name,
        address=model.ansible_host or name,
        port=model.ansible_port,
        user=model.ansible_user,
        key_files=_key_files(model),
        known_hosts=_beside(known, "fleet_known_hosts", model.fleet_known_hosts),
        ssh_config=_ssh_config(model, known) or given.config,
        ssh_arguments=given.arguments,
        become=bool(model.ansible_become),
        become_method=model.ansible_become_method or "sudo",
        python=model.ansible_python_interpreter,
        groups=groups,
        labels=tuple((key, variable.text) for key, variable in labels),
        unrendered=tuple(key for key, variable in labels if variable.unknown),
        layout=_layout(model),
        probes=model.fleet_probes or (),
        where=str(origin),
    )
    return BuiltHost(host, (), ignored, given.passed_over)


def _checked(known: Mapping[str, Variable], spelt: Mapping[str, str]) -> tuple[HostValues | None, tuple[Problem, ...]]:
    """The values, or `None` and what is wrong with them."""
    plain = plain_values(known)
    if plain is not None:
        return plain, ()
    from fleet.inventory.host_variables import checked

    return checked(known, spelt)


def _ignored(variables: Mapping[str, Variable], known: Mapping[str, Variable]) -> Iterator[str]:
    """The names of Ansible's own variables that have a value and are not read."""
    for name, variable in variables.items():
        if name.startswith("ansible_") and variable.value is not None and ALIASES.get(name, name) not in known:
            yield name


def is_label(name: str) -> bool:
    """Whether a variable of that name is a label: fleet shows it and does not interpret it."""
    return not name.startswith(("ansible_", "fleet_")) and name not in NGINX_VARIABLES


def _canonical(variables: Mapping[str, Variable]) -> tuple[dict[str, Variable], dict[str, str], list[Problem]]:
    """What fleet reads, under current names; how each is spelt; a problem for each that is given twice with two values."""
    given = {key: variable for key, variable in variables.items() if variable.value is not None}
    if not _is_true(given.get("ansible_become")):
        given = {key: variable for key, variable in given.items() if ALIASES.get(key, key) not in _ONLY_WITH_BECOME}
    known = {key: variable for key, variable in given.items() if key in KNOWN}
    spelt = {key: key for key in known}
    clashes = []
    for alias, name in ALIASES.items():
        if alias not in given:
            continue
        if name in known and known[name].text != given[alias].text:
            message = f"{alias} and {name} differ; keep only {name}."
            remedy = f"Or write `{alias}:` without a value in host_vars/HOST.yml."
            clashes.append(Problem(given[alias].origin, message, remedy, name))
        known[name], spelt[name] = given[alias], alias
    return known, spelt, clashes


def _other_connection(connection: Variable | None) -> Problem | None:
    """A connection that fleet does not have. Whatever else is said of such a host is said for that connection."""
    if connection is None or connection.unknown or without_collection(connection.value) in CONNECTIONS:
        return None
    name = "ansible_connection"
    remedy = "To reach the host by SSH, write `ansible_connection: ssh` in host_vars/HOST.yml."
    return Problem(
        connection.origin, f"{name} is {connection.text!r}; allowed: {host_values.CONNECTIONS}.", remedy, name
    )


def _is_true(variable: Variable | None) -> bool:
    return variable is not None and variable.text.lower() in _TRUE


def _unknown_values(known: Mapping[str, Variable], spelt: Mapping[str, str]) -> Iterator[Problem]:
    for key, variable in known.items():
        if variable.unknown is not None:
            yield Problem(variable.origin, f"{spelt[key]} is {_UNKNOWN[variable.unknown]}.", _PLAINLY, key)


def _conflicts(
    variables: Mapping[str, Variable], known: Mapping[str, Variable], passwords: frozenset[Password]
) -> Iterator[Problem]:
    for conflict in CONFLICTS:
        if conflict.password in passwords or not _matters(conflict.when, known):
            continue
        for name in conflict.names:
            variable = variables.get(name)
            if variable is not None and (variable.unknown or conflict.is_met_by(variable.text)):
                yield Problem(variable.origin, *conflict.texts(name), name)


def _matters(when: When, known: Mapping[str, Variable]) -> bool:
    if when is When.BECOME:
        user = known.get("ansible_user")
        return _is_true(known.get("ansible_become")) and (user is None or user.text != "root")
    if when is When.PARAMIKO:
        connection = known.get("ansible_connection")
        return connection is not None and "paramiko" in connection.text
    return True


def _layout(model: HostValues) -> Layout:
    return Layout(
        binary=model.nginx_binary,
        pid_file=model.nginx_pid_file,
        config=model.nginx_config,
        prefix=model.nginx_prefix,
        state_dir=model.fleet_state_dir or Layout().state_dir,
    )


def _key_files(model: HostValues) -> tuple[str, ...]:
    """The path of the key, as Ansible reads it: `~` is the home directory, a relative path starts at the current one."""
    key_file = model.ansible_ssh_private_key_file
    return () if key_file is None else (os.path.abspath(os.path.expanduser(key_file)),)


def _ssh_config(model: HostValues, known: Mapping[str, Variable]) -> str | None:
    return "none" if model.fleet_ssh_config == "none" else _beside(known, "fleet_ssh_config", model.fleet_ssh_config)


def _beside(known: Mapping[str, Variable], name: str, path: str | None) -> str | None:
    """The absolute path of a variable's value, which is relative to the directory of the inventory that sets it."""
    if path is None:
        return None
    source = known[name].origin.path
    folder = source if source.is_dir() else source.parent
    folder = next((above.parent for above in source.parents if above.name in VARIABLE_FOLDERS), folder)
    return os.path.abspath(folder / Path(path).expanduser())
