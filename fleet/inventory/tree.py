"""Groups, hosts and variables as the sources give them, each with its place, merged as Ansible merges them.

Every reader (YAML, JSON) fills one `Tree`; only then is it read as hosts. So precedence is written once: `all`, then
groups from the outermost to the innermost (alphabetical on the same level), then the host; a later source wins.
What is wrong is collected as `Problem`s, because an operator wants to mend a file once, not line by line.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet.errors import InventoryError

ALL = "all"
UNGROUPED = "ungrouped"
MOST_PROBLEMS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Origin:
    """A place in a source: `line` counts from 1, and is `None` where a source has none (JSON from a program)."""

    path: Path
    line: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.line is None else f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Variable:
    """A value with the text that was written for it; lists and maps have compact JSON as their text."""

    value: object
    text: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in an inventory: where, what and what is allowed, and what to do now."""

    origin: Origin
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.origin}: {on_one_line(self.message)} {self.remedy}".rstrip()


@dataclass(slots=True)
class Group:
    """A group as defined so far; `hosts` and `children` are ordered sets."""

    variables: dict[str, Variable] = field(default_factory=dict)
    children: dict[str, None] = field(default_factory=dict)
    hosts: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class HostEntry:
    """A host as defined so far; `origin` is where it was named first."""

    origin: Origin
    variables: dict[str, Variable] = field(default_factory=dict)


class Tree:
    """The merged sources. Filled by readers, then only asked."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {ALL: Group(), UNGROUPED: Group()}
        self.hosts: dict[str, HostEntry] = {}

    def group(self, name: str) -> Group:
        """The group of that name, made if it is new."""
        return self.groups.setdefault(name, Group())

    def add_child(self, parent: str, child: str) -> bool:
        """Makes one group a child of another; false, and nothing is done, if that would close a circle."""
        if child == ALL or parent in self._descendants(child):
            return False
        self.group(parent).children[child] = None
        return True

    def add_host(self, group: str, name: str, origin: Origin) -> HostEntry:
        """The host's entry, now a member of the group."""
        self.group(group).hosts[name] = None
        return self.hosts.setdefault(name, HostEntry(origin))

    def members(self) -> dict[str, tuple[str, ...]]:
        """Every group with all its hosts, those of its children too, in the order of the inventory."""
        inside = {name: self._all_hosts(name) for name in self.groups}
        inside[ALL] = set(self.hosts)
        grouped = set().union(*(hosts for name, hosts in inside.items() if name not in (ALL, UNGROUPED)))
        inside[UNGROUPED] = inside[ALL] - grouped
        return {name: tuple(host for host in self.hosts if host in hosts) for name, hosts in inside.items()}

    def precedence(self) -> list[str]:
        """All groups, the weakest first."""
        depths = dict.fromkeys(self.groups, 1)
        depths[ALL] = 0
        changed = True
        while changed:
            changed = False
            for name, group in self.groups.items():
                for child in group.children:
                    if child not in (ALL, UNGROUPED) and depths[child] < depths[name] + 1:
                        depths[child] = depths[name] + 1
                        changed = True
        return sorted(self.groups, key=lambda name: (depths[name], name))

    def _all_hosts(self, name: str) -> set[str]:
        return set().union(*(self.groups[group].hosts for group in self._descendants(name)))

    def _descendants(self, name: str) -> set[str]:
        found: set[str] = set()
        waiting = [name]
        while waiting:
            group = waiting.pop()
            if group not in found:
                found.add(group)
                waiting.extend(self.group(group).children)
        return found


def on_one_line(text: str) -> str:
    """The text with what a terminal would not show as it is (line ends, control characters) written as escapes."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def refuse(problems: Sequence[Problem]) -> None:
    """Raises one `InventoryError` for all problems, each once, the first ten in full; returns if there are none."""
    distinct = sorted(dict.fromkeys(problems), key=lambda problem: (str(problem.origin.path), problem.origin.line or 0))
    if not distinct:
        return
    if len(distinct) == 1:
        problem = distinct[0]
        raise InventoryError(on_one_line(problem.message), where=str(problem.origin), remedy=problem.remedy)
    lines = [str(problem) for problem in distinct[:MOST_PROBLEMS_SHOWN]]
    rest = len(distinct) - len(lines)
    if rest:
        lines.append(f"… and {rest} more.")
    raise InventoryError("\n".join(lines))
