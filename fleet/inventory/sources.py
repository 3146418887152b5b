"""Loads every source into one tree, reports all errors at once, and gives the hosts that are selected.

What is wrong with the text of an inventory is refused when it is loaded. What is wrong with a host is refused when the host
is selected: a Windows host beside the web servers is no reason to upgrade none of them.
"""

from collections.abc import Sequence
from pathlib import Path

from fleet.errors import InventoryError
from fleet.inventory.ansible import (
    YAML_SUFFIXES,
    add_listed_by_ansible,
    add_listed_by_itself,
    is_executable,
    is_for_ansible,
    is_list_of_names,
    listed_names,
)
from fleet.inventory.selection import Inventory, inventory_of
from fleet.inventory.tree import ALL, Origin, Problem, Tree, Variable, refuse
from fleet.inventory.variable_folders import add_variable_folders
from fleet.inventory.variables import name_problems
from fleet.inventory.yaml_file import add_yaml, is_plugin_configuration, parse


def load(paths: Sequence[Path]) -> Inventory:
    """The merged inventory of all sources; a later one wins. Raises `InventoryError`."""
    if not paths:
        raise InventoryError("No inventory is given.", remedy="Name one with -i FILE or in $FLEET_INVENTORY.")
    tree = Tree()
    problems: list[Problem] = []
    _add_sources(tree, [_existing(Path(path).expanduser()) for path in paths], problems)
    problems.extend(name_problems(tree.every_variable()))
    refuse(problems)
    if not tree.hosts:
        where = ", ".join(str(path) for path in paths)
        raise InventoryError(
            "the inventory has no hosts.", where=where, remedy="Add hosts, such as all: {hosts: {web-01: }}."
        )
    return inventory_of(tree)


def _existing(path: Path) -> Path:
    if not path.exists() and not is_list_of_names(path):
        raise InventoryError("no such file or directory.", where=str(path), remedy="Name an inventory with -i FILE.")
    return path


def _add_sources(tree: Tree, paths: Sequence[Path], problems: list[Problem]) -> None:
    """Adds all sources. If Ansible must read one of them, it reads them all: only it merges what it alone can read."""
    roots = {path: parse(path) for path in paths if _is_yaml(path)}
    foreign = [
        path for path in paths if (is_plugin_configuration(roots[path]) if path in roots else is_for_ansible(path))
    ]
    if foreign:
        add_listed_by_ansible(tree, paths, foreign[0], problems)
        return
    for path in paths:
        if is_list_of_names(path):
            _add_names(tree, path, problems)
        elif path in roots:
            add_yaml(tree, path, roots[path], problems)
        else:
            add_listed_by_itself(tree, path, problems)
    beside = [path.parent for path in paths if not is_list_of_names(path)]
    add_variable_folders(tree, beside, problems)


def _is_yaml(path: Path) -> bool:
    return (
        path.suffix in YAML_SUFFIXES
        and not is_list_of_names(path)
        and not is_executable(path)
        and not is_for_ansible(path)
    )


def _add_names(tree: Tree, words: Path, problems: list[Problem]) -> None:
    for name, port in listed_names(words, problems):
        entry = tree.add_host(ALL, name, Origin(words))
        if port is not None:
            entry.variables["ansible_port"] = Variable(port, str(port), Origin(words))
