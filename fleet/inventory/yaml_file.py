"""Reads one file of Ansible's YAML inventory into a `Tree`.

The file is read as YAML 1.2 nodes, not as values: a node keeps its line, its tag (`!vault`) and its text, so that
`zone: no`, `version: 1.10` and `rack: 007` stay as they were written, and a duplicate key is found (PyYAML accepts it).
"""

from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from fleet.errors import InventoryError
from fleet.inventory.host_names import BadName, checked_name, expand
from fleet.inventory.nearest import did_you_mean
from fleet.inventory.tree import Origin, Problem, Tree, Variable, flatten_command, variable_text

SECTIONS = ("hosts", "vars", "children")
MOST_NODES = 1_000_000
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(
    _TAG + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge", "omap", "set")
)


def parse(path: Path) -> MappingNode:
    """The top-level mapping of the file. Raises `InventoryError` with file and line."""
    try:
        text = path.read_text("utf-8-sig")
        root = YAML(typ="rt", pure=True).compose(text)
    except OSError as error:
        raise InventoryError(f"it can't be read: {error.strerror}.", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise InventoryError("it is not UTF-8 text.", where=str(path), remedy="Save it as UTF-8.") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = str(Origin(path, mark.line + 1 if mark else None))
        raise InventoryError(f"not valid YAML: {_yaml_reason(error)}.", where=where) from error
    except (YAMLError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise InventoryError(f"not valid YAML: {reason}.", where=str(path)) from error
    if root is None:
        raise InventoryError(
            "the inventory is empty.", where=str(path), remedy="Add hosts, such as all: {hosts: {web-01: }}."
        )
    _refuse_endless(root, path)
    if not isinstance(root, MappingNode):
        raise InventoryError(
            "an inventory must be a map of groups, such as all: {hosts: {web-01: }}.",
            where=str(Origin(path, _line(root))),
        )
    return root


def _yaml_reason(error: MarkedYAMLError) -> str:
    """The reason in the parser's words; one that begins with "but" is the second half of a sentence."""
    problem = str(error.problem or error.context)
    if r"'\t'" in problem:
        return f"{problem}; indent with spaces"
    return f"{error.context}, {problem}" if problem.startswith("but ") else problem


def is_plugin_configuration(root: MappingNode) -> bool:
    """Whether the file is the configuration of an Ansible inventory plugin."""
    return any(key.value == "plugin" and isinstance(value, ScalarNode) for key, value in root.value)


def add_yaml(tree: Tree, path: Path, root: MappingNode, problems: list[Problem]) -> None:
    """Adds the file's groups, hosts and variables to the tree, and its errors to `problems`."""
    _Reader(tree, path, problems).file(root)


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _refuse_endless(root: Node, path: Path) -> None:
    """Raises `InventoryError` for an alias that contains itself, and for aliases that expand to over `MOST_NODES` nodes."""
    count = 0
    waiting: list[tuple[Node, tuple[int, ...]]] = [(root, ())]
    while waiting:
        node, above = waiting.pop()
        count += 1
        if id(node) in above or count > MOST_NODES:
            raise InventoryError(
                "an alias (*name) contains itself, or the aliases expand to over a million nodes.",
                where=str(Origin(path, _line(node))),
            )
        if isinstance(node, MappingNode):
            waiting.extend((part, (*above, id(node))) for pair in node.value for part in pair)
        elif isinstance(node, SequenceNode):
            waiting.extend((part, (*above, id(node))) for part in node.value)


class _Reader:
    """Reads one file into the tree and collects its problems."""

    def __init__(self, tree: Tree, path: Path, problems: list[Problem]) -> None:
        self.tree = tree
        self.path = path
        self.problems = problems

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
        if _is_null(body):
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
        if _is_null(content):
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
                self.tree.group(group).variables[key.value] = self.variable(key, value)
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
        if not _is_null(body) and not isinstance(body, MappingNode):
            self.wrong(body, f"host {key.value} must have a map of variables as its value, or no value.")
            return
        pairs = self.pairs(body) if isinstance(body, MappingNode) else iter(())
        variables = {name.value: self.variable(name, value) for name, value in pairs}
        if port is not None:
            variables = {"ansible_port": Variable(port, str(port), self.origin(key)), **variables}
        for name in names:
            self.tree.add_host(group, name, self.origin(key)).variables.update(variables)

    def variable(self, key: ScalarNode, node: Node) -> Variable:
        strange = next((part for part in _walk(node) if part.tag not in _PLAIN_TAGS), None)
        if strange is not None:
            self.wrong(
                strange,
                f"{key.value} has the tag {strange.tag}, which fleet can't resolve.",
                f"Let Ansible resolve it: {flatten_command(self.path)}, and use flat.yaml.",
            )
            return Variable(None, "", self.origin(key))
        value = self.plain(node)
        written = node.value if isinstance(node, ScalarNode) and value is not None else value
        return Variable(value, variable_text(written), self.origin(key))

    def plain(self, node: Node) -> object:
        """The node as plain Python data."""
        if isinstance(node, MappingNode):
            return {key.value: self.plain(value) for key, value in self.pairs(node)}
        if isinstance(node, SequenceNode):
            return [self.plain(part) for part in node.value]
        return _scalar(node)

    def pairs(self, node: MappingNode) -> Iterator[tuple[ScalarNode, Node]]:
        """Keys and values, merged ones (`<<`) last; a key here wins over a merged one, a duplicate key is a problem."""
        seen: dict[str, Node] = {}
        merged: list[Node] = []
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                merged.extend(value.value if isinstance(value, SequenceNode) else [value])
            elif not isinstance(key, ScalarNode):
                self.wrong(key, "a key must be a scalar.")
            elif key.value in seen:
                self.wrong(key, f"{key.value} is already defined in line {_line(seen[key.value])}; define it once.")
            else:
                seen[key.value] = key
                yield key, value
        for other in merged:
            if not isinstance(other, MappingNode):
                self.wrong(other, "<<: must have an alias (*name) of a map as its value.")
                continue
            for key, value in self.pairs(other):
                if key.value not in seen:
                    seen[key.value] = key
                    yield key, value

    def origin(self, node: Node) -> Origin:
        return Origin(self.path, _line(node))

    def wrong(self, node: Node, message: str, remedy: str = "") -> None:
        self.problems.append(Problem(self.origin(node), message, remedy))


_NOTHING = ScalarNode(_TAG + "null", "")


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == _TAG + "null"


def _walk(node: Node) -> Iterator[Node]:
    yield node
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _walk(key)
            yield from _walk(value)
    elif isinstance(node, SequenceNode):
        for part in node.value:
            yield from _walk(part)


def _scalar(node: Node) -> object:
    text = str(node.value)
    try:
        if node.tag == _TAG + "int":
            return int(text.replace("_", ""), 0 if text.lstrip("+-").startswith(("0o", "0x", "0b")) else 10)
        if node.tag == _TAG + "float":
            return float(text.replace("_", ""))
    except ValueError:
        return text
    if node.tag == _TAG + "bool":
        return text.lower() == "true"
    return None if node.tag == _TAG + "null" else text
