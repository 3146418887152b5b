"""Groups, hosts and variables of all sources, each with its file and line, merged as Ansible merges them.

The readers (YAML, JSON) fill one `Tree`, from which the hosts are built afterwards, so that the precedence stands in one
place, `Tree.variables_of`. A later source wins. Errors are collected as `Problem`s, so that an operator sees all errors of
a file at once.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from fleet.errors import InventoryError
from fleet.onhost.text import counted, safe, sentences

ALL = "all"
UNGROUPED = "ungrouped"
MOST_PROBLEMS_SHOWN = 10
GROUP_PRIORITY = "ansible_group_priority"
VARIABLE_FOLDERS = GROUP_VARS, HOST_VARS = "group_vars", "host_vars"
VAULTED = "!vault"
"""Stands for a value that is encrypted."""


@dataclass(frozen=True, slots=True)
class Origin:
    """File and line of a definition. `line` counts from 1; it is `None` for JSON from a program."""

    path: Path
    line: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.line is None else f"{self.path}:{self.line}"


class Unknown(Enum):
    """Why only Ansible can tell a value; a member's value is the word for it."""

    JINJA = "Jinja"
    VAULT = "vault"


@dataclass(frozen=True, slots=True)
class Variable:
    """A value, and the text that was written for it; the text of lists and maps is compact JSON.

    Where `unknown` is set, value and text are what stands in the file: a template, or `VAULTED` in place of a secret.
    """

    value: object
    text: str
    origin: Origin
    unknown: Unknown | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One error in an inventory: where it is, what is wrong and what is allowed, what to do.

    `variable` is set where the error matters only to a host that is selected.
    """

    origin: Origin
    message: str
    remedy: str = ""
    variable: str = ""

    def __str__(self) -> str:
        return safe(f"{self.origin}: {sentences(self.message, self.remedy)}")


@dataclass(slots=True)
class Group:
    """A group as read so far; `hosts` and `children` are ordered sets. `priority` is its `ansible_group_priority`."""

    variables: dict[str, Variable] = field(default_factory=dict)
    priority: int = 1
    children: dict[str, None] = field(default_factory=dict)
    hosts: dict[str, None] = field(default_factory=dict)


@dataclass(slots=True)
class HostEntry:
    """A host as read so far; `origin` is its first definition."""

    origin: Origin
    variables: dict[str, Variable] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FolderVariables:
    """The variables of one `group_vars` and one `host_vars` beside each other, by group and by host."""

    groups: Mapping[str, Mapping[str, Variable]]
    hosts: Mapping[str, Mapping[str, Variable]]


class Tree:
    """The merged sources: filled by the readers, read-only afterwards. `notes` are for the operator."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {ALL: Group(), UNGROUPED: Group()}
        self.hosts: dict[str, HostEntry] = {}
        self.folders: list[FolderVariables] = []
        self.notes: list[str] = []

    def group(self, name: str) -> Group:
        """The group of that name, created if it is new."""
        return self.groups.setdefault(name, Group())

    def set_group_variable(self, group: str, name: str, variable: Variable, problems: list[Problem]) -> None:
        """Sets a variable of a group in an inventory, where `ansible_group_priority` is the group's place in the order."""
        if name != GROUP_PRIORITY:
            self.group(group).variables[name] = variable
            return
        try:
            self.group(group).priority = int(variable.text)
        except ValueError:
            allowed = "allowed: a whole number; groups of one level are merged in its order."
            problems.append(Problem(variable.origin, f"{name} of group {group} is {variable.text!r}; {allowed}"))

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

    def variables_of(self, name: str, own: Sequence[str]) -> dict[str, Variable]:
        """The variables of a host in the groups `own`, which are in the order of their precedence, `all` first.

        In Ansible's order, the lowest first: the inventory's `all`, its other groups, `group_vars/all`, `group_vars` of the
        other groups, the inventory's host, `host_vars`.
        """
        inner = [group for group in own if group != ALL]
        layers: list[Mapping[str, Variable]] = [self.groups[group].variables for group in own]
        layers += [folder.groups.get(ALL, {}) for folder in self.folders]
        layers += [folder.groups.get(group, {}) for folder in self.folders for group in inner]
        layers.append(self.hosts[name].variables)
        layers += [folder.hosts.get(name, {}) for folder in self.folders]
        merged: dict[str, Variable] = {}
        for layer in layers:
            merged.update(layer)
        return merged

    def every_variable(self) -> Iterator[tuple[str, Variable]]:
        """Every variable as it was read, of groups and hosts, before any precedence."""
        for group in self.groups.values():
            yield from group.variables.items()
        for entry in self.hosts.values():
            yield from entry.variables.items()
        for folder in self.folders:
            for variables in (*folder.groups.values(), *folder.hosts.values()):
                yield from variables.items()

    def precedence(self) -> list[str]:
        """All groups, lowest precedence first: the outermost, then by `ansible_group_priority`, then by name."""
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
        return sorted(self.groups, key=lambda name: (depths[name], self.groups[name].priority, name))

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


def has_template(text: str) -> bool:
    """Whether the text has a Jinja expression or statement, which Ansible renders."""
    return "{{" in text or "{%" in text


def refuse(problems: Sequence[Problem], way_out: str = "") -> None:
    """Raises one `InventoryError` with all problems, a line each; returns if there are none.

    `way_out` is a remedy for all of them together.
    """
    distinct = sorted(dict.fromkeys(problems), key=lambda problem: (str(problem.origin.path), problem.origin.line or 0))
    if not distinct:
        return
    if len(distinct) == 1:
        problem = distinct[0]
        remedy = " ".join(filter(None, (problem.remedy, way_out)))
        raise InventoryError(safe(problem.message), where=str(problem.origin), remedy=remedy)
    lines = [str(problem) for problem in distinct[:MOST_PROBLEMS_SHOWN]]
    rest = len(distinct) - len(lines)
    if rest:
        lines.append(f"… and {counted(rest, 'more problem')}.")
    raise InventoryError("\n".join(filter(None, (*lines, way_out))))
