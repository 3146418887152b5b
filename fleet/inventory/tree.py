"""Groups, hosts and variables of all sources, each with its file and line, merged as Ansible merges them.

The readers (YAML, JSON) fill one `Tree`, from which the hosts are built afterwards, so that the precedence stands in one
place: `all`, then groups from the outermost to the innermost (alphabetical on the same level), then the host; a later
source wins. Errors are collected as `Problem`s, so that an operator sees all errors of a file at once.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet.errors import InventoryError
from fleet.onhost.text import counted, safe, sentences

ALL = "all"
UNGROUPED = "ungrouped"
MOST_PROBLEMS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Origin:
    """File and line of a definition. `line` counts from 1; it is `None` for JSON from a program."""

    path: Path
    line: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.line is None else f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Variable:
    """A value, and the text that was written for it; the text of lists and maps is compact JSON."""

    value: object
    text: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Problem:
    """One error in an inventory: where it is, what is wrong and what is allowed, what to do."""

    origin: Origin
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return safe(f"{self.origin}: {sentences(self.message, self.remedy)}")


@dataclass(slots=True)
class Group:
    """A group as read so far; `hosts` and `children` are ordered sets."""

    variables: dict[str, Variable] = field(default_factory=dict)
    children: dict[str, None] = field(default_factory=dict)
    hosts: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class HostEntry:
    """A host as read so far; `origin` is its first definition."""

    origin: Origin
    variables: dict[str, Variable] = field(default_factory=dict)


class Tree:
    """The merged sources: filled by the readers, read-only afterwards."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {ALL: Group(), UNGROUPED: Group()}
        self.hosts: dict[str, HostEntry] = {}

    def group(self, name: str) -> Group:
        """The group of that name, created if it is new."""
        return self.groups.setdefault(name, Group())

    def add_child(self, parent: str, child: str) -> bool:
        """Makes one group a child of another. Returns false, and changes nothing, if that would close a cycle."""
        if child == ALL or parent in self._descendants(child):
            return False
        self.group(parent).children[child] = None
        return True

    def add_host(self, group: str, name: str, origin: Origin) -> HostEntry:
        """Adds the host to the group and returns its entry."""
        self.group(group).hosts[name] = None
        return self.hosts.setdefault(name, HostEntry(origin))

    def members(self) -> dict[str, tuple[str, ...]]:
        """Every group with its hosts and those of its children, in the order of the inventory."""
        inside = {name: self._all_hosts(name) for name in self.groups}
        inside[ALL] = set(self.hosts)
        grouped = set().union(*(hosts for name, hosts in inside.items() if name not in (ALL, UNGROUPED)))
        inside[UNGROUPED] = inside[ALL] - grouped
        return {name: tuple(host for host in self.hosts if host in hosts) for name, hosts in inside.items()}

    def precedence(self) -> list[str]:
        """All groups, lowest precedence first."""
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


def variable_text(value: object) -> str:
    """A value as text: a string as it is, anything else as compact JSON, and as JSON what a terminal can't show."""
    if isinstance(value, str):
        text = value
    else:
        text = "" if value is None else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text if text.isprintable() else json.dumps(text)


def flatten_command(path: Path) -> str:
    """The command that writes an inventory as one YAML file, with all variables resolved, for remedies."""
    return f"`ansible-inventory -i {path} --list --yaml --output flat.yaml`"


def refuse(problems: Sequence[Problem]) -> None:
    """Raises one `InventoryError` with all problems, a line each; returns if there are none."""
    distinct = sorted(dict.fromkeys(problems), key=lambda problem: (str(problem.origin.path), problem.origin.line or 0))
    if not distinct:
        return
    if len(distinct) == 1:
        problem = distinct[0]
        raise InventoryError(safe(problem.message), where=str(problem.origin), remedy=problem.remedy)
    lines = [str(problem) for problem in distinct[:MOST_PROBLEMS_SHOWN]]
    rest = len(distinct) - len(lines)
    if rest:
        lines.append(f"… and {counted(rest, 'more problem')}.")
    raise InventoryError("\n".join(lines))
