"""Ansible's host patterns: what `--limit` selects.

    web  web*  ~web-\\d+  web[0]  web[0:2]  web[-1]  a:b  a,b  web:&eu  web:!web-07  !web-07  all  *  @file
    and the inventory's own ranges: web-[01:03].example.net

All patterns together are one expression: the union of all plain patterns, intersected with each `&`, without each `!`.
Unlike Ansible, which only warns, fleet refuses a pattern that matches nothing: with a mistyped `!web-07` it would upgrade
the very host that was to be left out. A range that Ansible would read as a wildcard is a range here. The built-in groups
match by name only, never by wildcard.
"""

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fleet.errors import InventoryError
from fleet.inventory.host_names import BadName, expand
from fleet.inventory.nearest import did_you_mean
from fleet.inventory.tree import ALL, UNGROUPED
from fleet.onhost.text import counted, listed

_SUBSCRIPT = re.compile(r"(?P<base>.+)\[(?:(?P<one>-?[0-9]+)|(?P<first>[0-9]+)[:-](?P<last>[0-9]*))\]")
_RANGE = re.compile(r"\[[^\[\]]*:[^\[\]]*\]")
_OPENING = {"[": "]", "(": ")", "{": "}"}


def select_names(patterns: Sequence[str], groups: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The names of the selected hosts, in the order of the inventory; all hosts without a pattern.

    `groups` has every host under `all`. Raises `InventoryError` if a pattern is invalid or matches nothing.
    """
    hosts = groups[ALL]
    named: set[str] = set()
    narrowed = set(hosts)
    excluded: set[str] = set()
    is_named = False
    for pattern in single_patterns(patterns, frozenset(hosts)):
        sign, rest = (pattern[0], pattern[1:]) if pattern[0] in "!&" else ("", pattern)
        matching = _matching(rest, groups)
        if sign == "!":
            excluded |= matching
        elif sign == "&":
            narrowed &= matching
        else:
            is_named = True
            named |= matching
    chosen = ((named if is_named else set(hosts)) & narrowed) - excluded
    if not chosen:
        raise InventoryError(
            f"--limit {' '.join(patterns)} selects no host.", remedy="`fleet inventory` lists all hosts."
        )
    return tuple(host for host in hosts if host in chosen)


def single_patterns(patterns: Sequence[str], hosts: frozenset[str]) -> Iterator[str]:
    """Each single pattern, those in files included."""
    for pattern in patterns:
        if not pattern.strip():
            raise InventoryError("--limit is empty.", remedy="Leave it out to select all hosts.")
        for part in _split(pattern.strip(), hosts):
            if part.startswith("@"):
                for line in _lines(Path(part[1:]).expanduser()):
                    yield from _split(line, hosts)
            else:
                yield part


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InventoryError(f"--limit @{path}: the file can't be read: {reason}.") from error
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise InventoryError(f"--limit @{path}: the file is empty; write one host or group per line.")
    nested = next((line for line in found if line.startswith("@")), None)
    if nested:
        raise InventoryError(f"--limit @{path}: {nested} is another file; only names and patterns are allowed in it.")
    return found


def _split(pattern: str, hosts: frozenset[str]) -> list[str]:
    """The parts between `,` and `:` outside brackets. The name of a host is never split (an IPv6 address has colons)."""
    parts: list[str] = []
    for piece in _cut(pattern, ","):
        parts.extend([piece] if piece.lstrip("!&") in hosts else _cut(piece, ":"))
    for part in parts:
        if not part.lstrip("!&").strip() or part[:2] in ("!!", "&&", "!&", "&!"):
            raise InventoryError(f"--limit {pattern}: {part!r} is not a pattern; an example: 'web:!web-07'.")
    return parts


def _cut(text: str, separator: str) -> list[str]:
    parts = [""]
    closing: list[str] = []
    escaped = False
    for character in text:
        if character == separator and not closing and not escaped:
            parts.append("")
            continue
        if not escaped and closing and character == closing[-1]:
            closing.pop()
        elif not escaped and character in _OPENING and (not closing or closing[-1] != "]"):
            closing.append(_OPENING[character])
        escaped = character == "\\" and not escaped
        parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _matching(pattern: str, groups: Mapping[str, tuple[str, ...]]) -> set[str]:
    if not pattern.startswith("~"):
        whole = _SUBSCRIPT.fullmatch(pattern)
        if whole:
            return _subscripted(pattern, whole, groups)
    found = _named(pattern, groups)
    if found is None:
        raise _no_match(pattern, groups)
    return found


def _named(pattern: str, groups: Mapping[str, tuple[str, ...]]) -> set[str] | None:
    """The hosts that one name, wildcard or regular expression matches; `None` if it matches no name."""
    hosts = groups[ALL]
    if pattern == "*":
        return set(hosts)
    if pattern in groups:
        return set(groups[pattern])
    if pattern in hosts:
        return {pattern}
    if not pattern.startswith("~") and not any(character in pattern for character in "*?["):
        return None
    if not pattern.startswith("~") and _RANGE.search(pattern):
        return _ranged(pattern, groups)
    try:
        expression = re.compile(pattern[1:] if pattern.startswith("~") else fnmatch.translate(pattern))
    except re.error as error:
        raise InventoryError(f"--limit {pattern}: not a valid regular expression: {error}.") from error
    found = [{host} for host in hosts if expression.match(host)]
    found += [
        set(members) for name, members in groups.items() if name not in (ALL, UNGROUPED) and expression.match(name)
    ]
    return set().union(*found) if found else None


def _ranged(pattern: str, groups: Mapping[str, tuple[str, ...]]) -> set[str]:
    """The hosts of a range. Raises `InventoryError` if one of them does not exist."""
    try:
        names, _ = expand(pattern)
    except BadName as error:
        raise InventoryError(f"--limit {pattern}: {error}") from error
    missing = [name for name in names if name not in groups[ALL]]
    if missing:
        raise _no_match(missing[0], groups)
    return set(names)


def _subscripted(pattern: str, whole: re.Match[str], groups: Mapping[str, tuple[str, ...]]) -> set[str]:
    """The hosts of `web[0]`, `web[-1]`, `web[1:]` or `web[0:2]`; the last one is included."""
    base = _named(whole["base"], groups)
    if base is None:
        # No such group: the brackets belong to a wildcard (`web-0[12]`) or a range (`web-[01:03]`).
        other = _named(pattern, groups)
        if other is None:
            raise _no_match(whole["base"], groups)
        return other
    members = [host for host in groups[ALL] if host in base]
    if whole["one"] is not None:
        number = int(whole["one"])
        chosen = members[number:][:1] if -len(members) <= number < len(members) else []
    else:
        chosen = members[int(whole["first"]) : int(whole["last"]) + 1 if whole["last"] else None]
    if not chosen:
        raise InventoryError(f"--limit {pattern}: {whole['base']} has only {counted(len(members))}, counted from 0.")
    return set(chosen)


def _no_match(pattern: str, groups: Mapping[str, tuple[str, ...]]) -> InventoryError:
    hosts = groups[ALL]
    names = [name for name in groups if name != UNGROUPED or groups[UNGROUPED]]
    guess = did_you_mean(pattern, [*hosts, *names])
    return InventoryError(
        f"--limit {pattern}: no such host or group{guess}.",
        remedy=f"Groups: {listed(names, 8)}. Hosts: {listed(hosts, 8)}.",
    )
