"""Every source into one tree, everything that is wrong said at once, and frozen values out.

Nothing that Ansible would honour and fleet does not is passed over: it is refused by name.
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
from fleet.inventory.tree import ALL, Origin, Problem, Tree, Variable, refuse
from fleet.inventory.variables import host_of, wrong_names
from fleet.inventory.yaml_file import add_yaml, is_plugin_configuration, parse


@dataclass(frozen=True, slots=True)
class Inventory:
    """All hosts in the order in which the sources name them; `groups` has `all` and `ungrouped`, too."""

    hosts: tuple[Host, ...]
    groups: Mapping[str, tuple[str, ...]]

    def select(self, patterns: Sequence[str] = ()) -> tuple[Host, ...]:
        """The hosts that Ansible's host patterns select, in the inventory's order; all of them without a pattern.

        Raises `InventoryError` where a pattern matches nothing, or no host is left.
        """
        chosen = frozenset(select_names(patterns, self.groups)) if patterns else frozenset(self.groups[ALL])
        return tuple(host for host in self.hosts if host.name in chosen)


def load(paths: Sequence[Path]) -> Inventory:
    """The inventory of all sources together, a later one winning. Raises `InventoryError`."""
    if not paths:
        raise InventoryError("no inventory is given.", remedy="Name one with -i FILE, or in $FLEET_INVENTORY.")
    tree = Tree()
    problems: list[Problem] = []
    for path in paths:
        _add_source(tree, Path(path), problems)
    for group in tree.groups.values():
        problems.extend(wrong_names(group.variables))
    for entry in tree.hosts.values():
        problems.extend(wrong_names(entry.variables))
    refuse(problems)
    inventory = _inventory_of(tree, problems)
    refuse(problems)
    if not inventory.hosts:
        where = ", ".join(str(path) for path in paths)
        raise InventoryError("there is no host in it.", where=where, remedy="Write hosts under all: hosts:.")
    return inventory


def _add_source(tree: Tree, path: Path, problems: list[Problem]) -> None:
    path = path.expanduser()
    if "," in str(path) and not path.exists():
        _add_names(tree, path, problems)
        return
    if not path.exists():
        raise InventoryError("no such inventory.", where=str(path), remedy="Name one with -i FILE.")
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


def _add_names(tree: Tree, listed: Path, problems: list[Problem]) -> None:
    """Adds the hosts of `-i web-01,web-02,`, as Ansible takes a word with a comma."""
    for word in filter(None, str(listed).split(",")):
        try:
            names, port = expand(word.strip())
        except BadName as error:
            problems.append(Problem(Origin(listed), f"host {error}"))
            continue
        for name in names:
            entry = tree.add_host(ALL, name, Origin(listed))
            if port is not None:
                entry.variables["ansible_port"] = Variable(port, str(port), Origin(listed))


def _refuse_variable_folders(path: Path) -> None:
    """Ansible would read `group_vars` and `host_vars` beside the file; leaving them unread would be a silent lie."""
    for name in ("group_vars", "host_vars"):
        folder = path.parent / name
        if folder.exists():
            raise InventoryError(
                f"there is a {name} folder beside {path.name}, which fleet does not read.",
                where=str(folder),
                remedy=f"Let Ansible merge it: 'ansible-inventory -i {path} --list --yaml --output flat.yaml', "
                "and give fleet flat.yaml from a folder without it.",
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
        listed = tuple(group for group in own if group != ALL)
        host = host_of(name, variables, groups=listed, origin=entry.origin, problems=problems)
        if host is not None:
            hosts.append(host)
    return Inventory(tuple(hosts), MappingProxyType(groups))
