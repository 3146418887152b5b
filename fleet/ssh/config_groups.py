"""Which hosts no line of ssh_config tells apart: for all of them `ssh -G` need be asked only once.

A process for each host costs 9 ms of CPU. `ssh -v` names the files that it reads. If these hold nothing but plain stanzas,
two hosts get the same answer when the same patterns match both, except for their own names. What this module does not
understand (Match, tokens, canonical names, quotes) is left to one question for each host. It never says what a line means:
only ssh does.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

Options = Mapping[str, tuple[str, ...]]
Group = tuple[str, tuple[bool, ...]]
PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9.:_-]*")
"""A name that ssh takes as it is: no user, port or scheme in it, and nothing to fold to lower case."""
READ = re.compile(r"^debug1: Reading configuration data (.*?)\r?$", re.M)
MOST_SHOWN = 200
"""ssh cuts a longer path off in that line."""
LINE = re.compile(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+|$)(.*?)\s*")
NOT_EXPANDED = frozenset({"controlpath", "localcommand", "proxycommand", "proxyjump", "remotecommand"})
"""Keywords whose tokens `ssh -G` prints as they are."""
PARTS_OF_A_JUMP = re.compile(r"[\s,@/\[\]]+")


@dataclass(frozen=True, slots=True)
class Stanzas:
    """What the files say about names: `names` stand in them in full; `addresses` are the values of HostName."""

    names: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]
    addresses: frozenset[str]

    def group(self, name: str) -> Group:
        """Hosts of one group get the same answer. A name that stands in the files is a group of its own."""
        own = name if name in self.names else ""
        return own, tuple(pattern.fullmatch(name) is not None for pattern in self.patterns)

    def is_shared(self, name: str, answer: Options) -> bool:
        """Whether the answer for this host is that of its group, with another name in it."""
        return answer.get("hostname") != (name,) or name not in self.addresses


def files_read(told: str, config: str | None) -> tuple[Path, ...] | None:
    """The files that `ssh -v` says it read; `None` when not all of them are known. `config` is the file that it was given."""
    paths = READ.findall(told)
    if any(len(path) >= MOST_SHOWN for path in paths) or (config not in (None, "none") and config not in paths):
        return None
    return tuple(map(Path, paths))


def stanzas(texts: Iterable[str]) -> Stanzas | None:
    """What the texts of the files say about names; `None` when a line may tell hosts apart in another way."""
    names: set[str] = set()
    patterns: dict[str, re.Pattern[str]] = {}
    addresses: set[str] = set()
    for line in (line for text in texts for line in text.split("\n")):
        found = LINE.fullmatch(line)
        if found is None:
            if line.strip() and not line.lstrip().startswith("#"):
                return None
            continue
        keyword, value = found[1].lower(), found[2].lower()
        if not _is_plain(keyword, value):
            return None
        if keyword == "host":
            for word in value.replace("!", "").split():
                if {"*", "?"}.isdisjoint(word):
                    names.add(word)
                else:
                    patterns[word] = _compiled(word)
        elif keyword == "hostname":
            addresses.add(value)
        elif keyword == "proxyjump":  # ssh refuses a host that is its own jump
            hops = PARTS_OF_A_JUMP.split(value)
            names.update(hops, (hop.partition(":")[0] for hop in hops))  # NAME:PORT, and addresses with colons
    return Stanzas(frozenset(names), tuple(patterns.values()), frozenset(addresses))


def of_another(answer: Options, name: str, other: str, user: str | None, port: int | None) -> Options:
    """The answer for `name` as that for `other` of its group, which is asked with this user and port."""
    own = {"host": other, "user": user, "port": port and str(port)}
    if answer.get("hostname") == (name,):
        own["hostname"] = other
    return {**answer, **{key: (value,) for key, value in own.items() if value}}


def _is_plain(keyword: str, value: str) -> bool:
    if keyword == "match":
        return value == "all"
    if keyword == "canonicalizehostname":
        return value == "no"
    if keyword in ("host", "hostname", "include", "proxyjump") and not {'"', "'", "\\", "#", "="}.isdisjoint(value):
        return False
    return "%" not in value or keyword in NOT_EXPANDED


def _compiled(pattern: str) -> re.Pattern[str]:
    """`*` matches any number of characters, `?` one (ssh_config(5), PATTERNS)."""
    wild = {"*": ".*", "?": "."}
    return re.compile("".join(wild.get(letter, re.escape(letter)) for letter in re.sub(r"\*+", "*", pattern)))
