"""Reads a file of Ansible's YAML inventory, and a file of variables, into a `Tree`."""

from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from fleet.errors import InventoryError
from fleet.inventory.host_names import BadName, checked_name, expand
from fleet.inventory.nearest import did_you_mean
from fleet.inventory.tree import Origin, Problem, Tree, Variable
from fleet.inventory.yaml_values import TAG, Values, compose, is_null, line_of

SECTIONS = ("hosts", "vars", "children")


def parse(path: Path) -> MappingNode:
    """The top-level mapping of an inventory. Raises `InventoryError` with file and line."""
    root = compose(path)
    if root is None:
        raise InventoryError(
            "the inventory is empty.", where=str(path), remedy="Add hosts, such as all: {hosts: {web-01: }}."
        )
    if not isinstance(root, MappingNode):
        raise InventoryError(
            "an inventory must be a map of groups, such as all: {hosts: {web-01: }}.",
            where=str(Origin(path, line_of(root))),
        )
    return root


def is_plugin_configuration(root: MappingNode) -> bool:
    """Whether the file is the configuration of an Ansible inventory plugin."""
    return any(key.value == "plugin" and isinstance(value, ScalarNode) for key, value in root.value)


def add_yaml(tree: Tree, path: Path, root: MappingNode, problems: list[Problem]) -> None:
    """Adds the file's groups, hosts and variables to the tree, and its errors to `problems`."""
    _Reader(tree, path, problems).file(root)


def variables_in(path: Path, problems: list[Problem]) -> dict[str, Variable]:
    """The variables of a file of `group_vars` or `host_vars`. Raises `InventoryError`."""
    root = compose(path)
    if root is None or is_null(root):
        return {}
    if not isinstance(root, MappingNode):
        raise InventoryError(
            "a file of variables must be a map of names and values, such as zone: eu-1.",
            where=str(Origin(path, line_of(root))),
        )
    return Values(path, problems).variables(root)


class _Reader(Values):
    """Reads one inventory into the tree."""

    def __init__(self, tree: Tree, path: Path, problems: list[Problem]) -> None:
        super().__init__(path, problems)
        self.tree = tree

    def file(self, root: MappingNode) -> None:
        for key, value in self.pairs(root):
            if key.value in SECTIONS:
                self.wrong(
                    key, f"{key.value}: is at the top level, where only groups are allowed; move it into the group all."
                )
                continue
            self.group(key, value)

    def group(self, key: ScalarNode, body: Node) -> bool:
        """Reads one group; returns false if it is not a valid one."""
        try:
            name = checked_name(key.value)
        except BadName as error:
            self.wrong(key, str(error))
            return False
        self.tree.group(name)
        if is_null(body):
            return True
        if not isinstance(body, MappingNode):
            self.wrong(body, f"group {name} must be a map with {', '.join(SECTIONS)}.")
            return False
        for section, content in self.pairs(body):
            self.section(name, section, content)
        return True

    def section(self, group: str, section: ScalarNode, content: Node) -> None:
        word = section.value
        if word not in SECTIONS:
            guess = did_you_mean(word, SECTIONS)
            self.wrong(section, f"group {group} has an unknown key {word}{guess}; allowed: {', '.join(SECTIONS)}.")
            return
        if is_null(content):
            return
        if isinstance(content, ScalarNode) and word != "vars":
            pairs: Iterator[tuple[ScalarNode, Node]] = iter([(content, _NOTHING)])
        elif isinstance(content, MappingNode):
            pairs = self.pairs(content)
        else:
            self.wrong(
                content,
                f"{word}: of group {group} must be a map: write each name with a colon after it and no dash before it.",
            )
            return
        for key, value in pairs:
            if word == "vars":
                self.tree.set_group_variable(group, key.value, self.variable(key, value), self.problems)
            elif word == "hosts":
                self.host(group, key, value)
            elif self.group(key, value) and not self.tree.add_child(group, key.value):
                self.wrong(key, f"group {key.value} contains itself; remove it from the children of {group}.")

    def host(self, group: str, key: ScalarNode, body: Node) -> None:
        try:
            names, port = expand(key.value)
        except BadName as error:
            self.wrong(key, str(error))
            return
        if not is_null(body) and not isinstance(body, MappingNode):
            self.wrong(body, f"host {key.value} must have a map of variables as its value, or no value.")
            return
        variables = self.variables(body) if isinstance(body, MappingNode) else {}
        if port is not None:
            variables = {"ansible_port": Variable(port, str(port), self.origin(key)), **variables}
        for name in names:
            self.tree.add_host(group, name, self.origin(key)).variables.update(variables)


_NOTHING = ScalarNode(TAG + "null", "")
