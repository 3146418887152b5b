"""Loads every source into one tree, reports all errors at once, and builds frozen hosts.

A setting that Ansible supports and fleet does not is never ignored: it is refused by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fleet.errors import InventoryError
from fleet.host import Host
from fleet.inventory.ansible import YAML_SUFFIXES, add_listed_by_ansible, add_listed_by_itself, is_executable
from fleet.inventory.host_names import BadName, expand
from fleet.inventory.patterns import select_names
from fleet.inventory.tree import ALL, Origin, Problem, Tree, Variable, flatten_command, refuse
from fleet.inventory.variables import build_host, variable_problems
from fleet.inventory.yaml_file import add_yaml, is_plugin_configuration, parse


@dataclass(frozen=True, slots=True)
class Inventory:
    """All hosts, in the order of the sources; `groups` includes `all` and `ungrouped`."""

    hosts: tuple[Host, ...]
    groups: Mapping[str, tuple[str, ...]]

    def select(self, patterns: Sequence[str] = ()) -> tuple[Host, ...]:
        """The hosts that Ansible's host patterns select, in the order of the inventory; all hosts without a pattern.

        Raises `InventoryError` if a pattern matches nothing, or no host is left.
        """
        chosen = frozenset(select_names(patterns, self.groups)) if patterns else frozenset(self.groups[ALL])
        return tuple(host for host in self.hosts if host.name in chosen)


def load(paths: Sequence[Path]) -> Inventory:
    """The merged inventory of all sources; a later one wins. Raises `InventoryError`."""
    if not paths:
        raise InventoryError("No inventory is given.", remedy="Name one with -i FILE or in $FLEET_INVENTORY.")
    tree = Tree()
    problems: list[Problem] = []
    for path in paths:
        _add_source(tree, Path(path), problems)
    for group in tree.groups.values():
        problems.extend(variable_problems(group.variables))
    for entry in tree.hosts.values():
        problems.extend(variable_problems(entry.variables))
    refuse(problems)
    inventory = _inventory_of(tree, problems)
    refuse(problems)
    if not inventory.hosts:
        where = ", ".join(str(path) for path in paths)
        raise InventoryError(
            "the inventory has no hosts.", where=where, remedy="Add hosts, such as all: {hosts: {web-01: }}."
        )
    return inventory


def _add_source(tree: Tree, path: Path, problems: list[Problem]) -> None:
    path = path.expanduser()
    if "," in str(path) and not path.exists():
        _add_names(tree, path, problems)
        return
    if not path.exists():
        raise InventoryError("no such file or directory.", where=str(path), remedy="Name an inventory with -i FILE.")
    if path.is_file() and is_executable(path):
        _refuse_variable_folders(path)
        add_listed_by_itself(tree, path, problems)
        return
    if path.is_dir() or path.suffix not in YAML_SUFFIXES:
        add_listed_by_ansible(tree, path, problems)
        return
    root = parse(path)
    if is_plugin_configuration(root):
        add_listed_by_ansible(tree, path, problems)
        return
    _refuse_variable_folders(path)
    add_yaml(tree, path, root, problems)


def _add_names(tree: Tree, words: Path, problems: list[Problem]) -> None:
    """Adds the hosts of `-i web-01,web-02,`: Ansible reads a word with a comma as a list of hosts."""
    for word in filter(None, str(words).split(",")):
        try:
            names, port = expand(word.strip())
        except BadName as error:
            problems.append(Problem(Origin(words), str(error)))
            continue
        for name in names:
            entry = tree.add_host(ALL, name, Origin(words))
            if port is not None:
                entry.variables["ansible_port"] = Variable(port, str(port), Origin(words))


def _refuse_variable_folders(path: Path) -> None:
    """Raises `InventoryError` for `group_vars` and `host_vars` beside the file: Ansible reads them, fleet does not."""
    for name in ("group_vars", "host_vars"):
        folder = path.parent / name
        if folder.exists():
            raise InventoryError(
                f"fleet does not read the {name} directory beside {path.name}.",
                where=str(folder),
                remedy=f"Let Ansible merge it: {flatten_command(path)}, and use flat.yaml from another directory.",
            )


def _inventory_of(tree: Tree, problems: list[Problem]) -> Inventory:
    groups = tree.members()
    order = tree.precedence()
    inside = {name: frozenset(members) for name, members in groups.items()}
    hosts: list[Host] = []
    for name, entry in tree.hosts.items():
        own = [group for group in order if name in inside[group]]
        variables: dict[str, Variable] = {}
        for group in own:
            variables.update(tree.groups[group].variables)
        variables.update(entry.variables)
        named = tuple(group for group in own if group != ALL)
        host = build_host(name, variables, groups=named, origin=entry.origin, problems=problems)
        if host is not None:
            hosts.append(host)
    return Inventory(tuple(hosts), MappingProxyType(groups))
