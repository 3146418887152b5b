"""The hosts that `--limit` selects, what of the inventory fleet leaves aside, and why a selected host is refused.

A refusal ends with the complete `-l` that leaves the refused hosts out. What concerns other hosts, and what fleet does not
use, is a note: one line per kind, whatever the number of hosts.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from fleet.host import Host
from fleet.inventory.ansible_variables import ALIASES, CONFLICTS, Password, is_ignored
from fleet.inventory.host_values import KNOWN, NGINX_VARIABLES
from fleet.inventory.nearest import one_slip_off
from fleet.inventory.patterns import select_names, single_patterns
from fleet.inventory.tree import ALL, Origin, Problem, Tree, Unknown, Variable, refuse
from fleet.inventory.variables import BuiltHost, build_host, is_label
from fleet.onhost.text import counted, listed
from fleet.typed_command import UNTYPED, TypedCommand

MOST_NAMED = 4
READ = (*KNOWN, *ALIASES)
_ANSWERED = {*READ, *(name for conflict in CONFLICTS for name in conflict.names)}
_PASSWORDS = {name for conflict in CONFLICTS if conflict.password for name in conflict.names}


class Selection(NamedTuple):
    """The selected hosts in the order of the inventory, and notes for the operator."""

    hosts: tuple[Host, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostSource:
    """What the inventory says of one host, all groups merged. `origin` is its first definition."""

    variables: Mapping[str, Variable]
    groups: tuple[str, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Inventory:
    """All hosts, in the order of the sources; `groups` includes `all` and `ungrouped`. `notes` are about the files."""

    sources: Mapping[str, HostSource]
    groups: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts. Raises `InventoryError` if fleet can't handle one of them."""
        return self.select()

    def select(self, patterns: Sequence[str] = ()) -> tuple[Host, ...]:
        """The hosts of `selection`, without its notes."""
        return self.selection(patterns).hosts

    def selection(
        self,
        patterns: Sequence[str] = (),
        passwords: frozenset[Password] = frozenset(),
        needed: Collection[str] | None = None,
        typed: TypedCommand = UNTYPED,
    ) -> Selection:
        """The hosts that Ansible's host patterns select; all hosts without a pattern.

        `passwords` are those that the command is given, or does not need. `needed` are the hosts that the command can't do
        without, `None` for all selected ones. `typed` is the command that a refusal prints without the refused hosts.

        Raises `InventoryError` if a pattern matches nothing, if no host is left, or if fleet can't reach or handle a needed
        host as the inventory describes it.
        """
        chosen = frozenset(select_names(patterns, self.groups)) if patterns else frozenset(self.groups[ALL])
        built = {name: self._built(name, passwords) for name in self.sources}
        selected = {name: each for name, each in built.items() if name in chosen}
        refused = [name for name, each in selected.items() if each.host is None]
        kept = [name for name, each in selected.items() if each.host is not None]
        unfit = [name for name in refused if needed is None or name in needed or not kept]
        problems = _with_names({name: selected[name].problems for name in unfit})
        refuse(problems, self._way_out(replace(typed, limits=tuple(patterns)), refused, kept))
        hosts = tuple(each.host for each in selected.values() if each.host is not None)
        others = {name: each for name, each in built.items() if name not in kept}
        place = "outside --limit" if chosen.isdisjoint(refused) else "of the inventory"
        notes = (*self.notes, *self._notes({name: selected[name] for name in kept}), *_notes_on_others(others, place))
        return Selection(hosts, notes)

    def names_hosts(self, patterns: Sequence[str]) -> bool:
        """Whether one of the patterns names hosts or groups; the others only narrow a selection."""
        return any(pattern[0] not in "!&" for pattern in single_patterns(patterns, frozenset(self.groups[ALL])))

    def _built(self, name: str, passwords: frozenset[Password]) -> BuiltHost:
        source = self.sources[name]
        return build_host(name, source.variables, groups=source.groups, origin=source.origin, passwords=passwords)

    def _way_out(self, typed: TypedCommand, refused: Sequence[str], kept: Sequence[str]) -> str:
        """The command that leaves the refused hosts out; nothing if no host would be left."""
        if not refused or not kept:
            return ""
        without = typed.without(self._shortest(refused, frozenset(kept)))
        return f"Or leave the {'host' if len(refused) == 1 else counted(len(refused))} out: {without.quoted}."

    def _shortest(self, refused: Sequence[str], kept: frozenset[str]) -> list[str]:
        """Names of groups and hosts that stand for the refused hosts and for none that is kept."""
        groups = {name: set(members) for name, members in self.groups.items() if kept.isdisjoint(members)}
        left, found = set(refused), []
        for name in sorted(groups, key=lambda name: (-len(groups[name] & left), name)):
            if len(groups[name] & left) > 1:
                found.append(name)
                left -= groups[name]
        return found + [name for name in refused if name in left]

    def _notes(self, selected: Mapping[str, BuiltHost]) -> Iterator[str]:
        """What fleet does not use of what the inventory says about the selected hosts."""
        ignored = Counter(name for each in selected.values() for name in each.ignored)
        passwords = Counter({name: count for name, count in ignored.items() if name in _PASSWORDS})
        if passwords:
            options = "`--ask-pass` and `--ask-become-pass`"
            yield f"Passwords in the inventory are not used: {_counts(passwords)}. fleet takes them from {options}."
        if ignored - passwords:
            yield f"fleet does not use these variables of Ansible: {_counts(ignored - passwords)}."
        passed_over = Counter(option for each in selected.values() for option in each.passed_over)
        if passed_over:
            yield f"fleet passes over these options of ssh: {_counts(passed_over)}."
        for unknown, words in _UNRENDERED.items():
            names = Counter(
                name
                for host in selected
                for name, variable in self.sources[host].variables.items()
                if variable.unknown is unknown and is_label(name)
            )
            if names:
                yield f"{words[0]}: {_counts(names)}. {words[1]}"


_UNRENDERED = {
    Unknown.JINJA: ("Jinja is not rendered", "These labels show the template."),
    Unknown.VAULT: ("Vault is not opened", "fleet does not know the values of these labels."),
}


def _with_names(problems: Mapping[str, Sequence[Problem]]) -> list[Problem]:
    """The distinct problems of the hosts. One of a single host has its name in the remedy; one without a line has names."""
    hosts: dict[Problem, list[str]] = {}
    for name, own in problems.items():
        for problem in own:
            hosts.setdefault(problem, []).append(name)
    named = []
    for problem, names in hosts.items():
        remedy = (
            problem.remedy.replace("host_vars/HOST.", f"host_vars/{names[0]}.") if len(names) == 1 else problem.remedy
        )
        message = f"{listed(names, 3)}: {problem.message}" if problem.origin.line is None else problem.message
        named.append(replace(problem, message=message, remedy=remedy))
    return named


def inventory_of(tree: Tree) -> Inventory:
    """The inventory that the tree describes."""
    groups = tree.members()
    order = tree.precedence()
    inside = {name: frozenset(members) for name, members in groups.items()}
    sources: dict[str, HostSource] = {}
    for name, entry in tree.hosts.items():
        own = [group for group in order if name in inside[group]]
        named = tuple(group for group in own if group != ALL)
        sources[name] = HostSource(tree.variables_of(name, own), named, entry.origin)
    notes = (*tree.notes, *_notes_on_names(tree.every_variable()))
    return Inventory(MappingProxyType(sources), MappingProxyType(groups), notes)


def _notes_on_names(variables: Iterable[tuple[str, Variable]]) -> Iterator[str]:
    """A note for each name that is one letter off from a variable that fleet reads, with the place where it is first."""
    places: dict[str, Origin] = {}
    for name, variable in variables:
        places.setdefault(name, variable.origin)
    for name, origin in places.items():
        if is_label(name):
            meant, what = one_slip_off(name, NGINX_VARIABLES), "only a label"
        elif name in _ANSWERED or is_ignored(name):
            continue
        else:
            meant, what = one_slip_off(name, READ), "not used"
        if meant:
            yield f"{origin}: {name} is {what}; did you mean {meant}?"


def _notes_on_others(others: Mapping[str, BuiltHost], place: str) -> Iterator[str]:
    """The hosts that are left aside and would be refused."""
    reasons: dict[str, list[str]] = {}
    for name, each in others.items():
        if each.problems:
            variables = dict.fromkeys(problem.variable for problem in each.problems)
            reasons.setdefault(" and ".join(variables), []).append(name)
    if reasons:
        count = sum(len(names) for names in reasons.values())
        told = [f"{why} of {listed(names, 3)}" for why, names in reasons.items()]
        yield f"{counted(count)} {place} can't be handled by fleet: {listed(told, MOST_NAMED, '; ')}."


def _counts(names: Counter[str]) -> str:
    return listed([f"{name} ({counted(count)})" for name, count in sorted(names.items())], MOST_NAMED)
