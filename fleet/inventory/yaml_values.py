"""Reads YAML into variables: the nodes of a file, and what stands in them.

A file is read as YAML 1.2 nodes, not as values: a node keeps its line, its tag (`!vault`) and its text, so that
`zone: no`, `version: 1.10` and `rack: 007` stay as they were written, and a duplicate key is found (PyYAML accepts it).
"""

from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from fleet.errors import InventoryError
from fleet.inventory.tree import VAULTED, Origin, Problem, Unknown, Variable, has_template, variable_text

MOST_NODES = 1_000_000
TAG = "tag:yaml.org,2002:"
LITERAL = "!unsafe"
"""Ansible's tag of a text that is no template, whatever stands in it."""
_VAULT_TAGS = frozenset(("!vault", "!vault-encrypted"))
_KNOWN_TAGS = frozenset(
    TAG + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge", "omap", "set")
) | {LITERAL, *_VAULT_TAGS}


def compose(path: Path) -> Node | None:
    """The root node of the file, `None` if it is empty. Raises `InventoryError` with file and line."""
    try:
        text = path.read_text("utf-8-sig")
        root: Node | None = YAML(typ="rt", pure=True).compose(text)
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
    if root is not None:
        _refuse_endless(root, path)
    return root


def _yaml_reason(error: MarkedYAMLError) -> str:
    """The reason in the parser's words; one that begins with "but" is the second half of a sentence."""
    problem = str(error.problem or error.context)
    if r"'\t'" in problem:
        return f"{problem}; indent with spaces"
    return f"{error.context}, {problem}" if problem.startswith("but ") else problem


def line_of(node: Node) -> int:
    """The line on which the node begins, counted from 1."""
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
                where=str(Origin(path, line_of(node))),
            )
        if isinstance(node, MappingNode):
            waiting.extend((part, (*above, id(node))) for pair in node.value for part in pair)
        elif isinstance(node, SequenceNode):
            waiting.extend((part, (*above, id(node))) for part in node.value)


class Values:
    """Reads the maps and variables of one file and collects its problems."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems

    def variables(self, node: MappingNode) -> dict[str, Variable]:
        """The variables of a map of names and values."""
        return {key.value: self.variable(key, value) for key, value in self.pairs(node)}

    def variable(self, key: ScalarNode, node: Node) -> Variable:
        """The variable with that name and value. What stands inside a value is a problem only in fleet's own settings."""
        strange = next((part for part in _walk(node) if part.tag not in _KNOWN_TAGS), None)
        if strange is not None:
            self.wrong(
                strange, f"{key.value} has the tag {strange.tag}, which neither fleet nor Ansible knows; remove it."
            )
            return Variable(None, "", self.origin(key))
        inside = self.problems if key.value.startswith("fleet_") else []
        value = Values(self.path, inside).plain(node)
        written = node.value if isinstance(node, ScalarNode) and value not in (None, VAULTED) else value
        return Variable(value, variable_text(written), self.origin(key), _unknown(node))

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
            if key.tag == TAG + "merge":
                merged.extend(value.value if isinstance(value, SequenceNode) else [value])
            elif not isinstance(key, ScalarNode):
                self.wrong(key, "a key must be a scalar.")
            else:
                if key.value in seen:
                    first = line_of(seen[key.value])
                    self.wrong(key, f"{key.value} is already defined in line {first}; define it once.")
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
        return Origin(self.path, line_of(node))

    def wrong(self, node: Node, message: str, remedy: str = "") -> None:
        self.problems.append(Problem(self.origin(node), message, remedy))


def is_null(node: Node) -> bool:
    """Whether nothing, or `null`, is written there."""
    return isinstance(node, ScalarNode) and node.tag == TAG + "null"


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for part in _parts(node):
        yield from _walk(part)


def _parts(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _unknown(node: Node) -> Unknown | None:
    """Why only Ansible can tell the value of the node, or of a part of it."""
    if node.tag in _VAULT_TAGS:
        return Unknown.VAULT
    if node.tag == LITERAL:
        return None
    if isinstance(node, ScalarNode):
        return Unknown.JINJA if has_template(node.value) else None
    found = {_unknown(part) for part in _parts(node)}
    return next((kind for kind in (Unknown.VAULT, Unknown.JINJA) if kind in found), None)


def _scalar(node: Node) -> object:
    if node.tag in _VAULT_TAGS:
        return VAULTED
    text = str(node.value)
    try:
        if node.tag == TAG + "int":
            return int(text.replace("_", ""), 0 if text.lstrip("+-").startswith(("0o", "0x", "0b")) else 10)
        if node.tag == TAG + "float":
            return float(text.replace("_", ""))
    except ValueError:
        return text
    if node.tag == TAG + "bool":
        return text.lower() == "true"
    return None if node.tag == TAG + "null" else text
