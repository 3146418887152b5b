"""A known_hosts file by its own rules (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): which of its lines speak of a name.

`ssh-keygen -F` is asked wherever there is one; this stands in on a laptop without OpenSSH's client, and a test holds its
answers to those of ssh-keygen. Names are hashed here, too, for `ssh_config`'s HashKnownHosts.
"""

import base64
import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

HASHED = "|1|"
WILD = frozenset("*?")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file: its number (from 1), the names that it speaks of, and all of it."""

    number: int
    names: str
    text: str


def lines_of(text: str) -> tuple[Line, ...]:
    """The lines of a file that speak of any name."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split(None, 2)
        names = fields[1:2] if fields and fields[0].startswith("@") else fields[:1]
        if names and not names[0].startswith("#"):
            found.append(Line(number, names[0], line))
    return tuple(found)


def lines_about(lines: Iterable[Line], name: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line that speaks of the name, whatever its marker and its key are."""
    return ((line.number, line.text) for line in lines if speaks_of(line.names, name))


def speaks_of(names: str, name: str) -> bool:
    """Whether the names of a line, with their patterns, or its hash, mean this name."""
    if names.startswith(HASHED):
        return _is_hash_of(names, name)
    lower = name.lower()
    patterns = names.lower().split(",")
    if "!" in names and any(_matches(pattern[1:], lower) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(_matches(pattern, lower) for pattern in patterns if not pattern.startswith("!"))


def hashed(name: str, salt: bytes) -> str:
    """The name so that only who knows it recognises it. The salt has 20 bytes."""
    mac = hmac.digest(salt, name.encode("utf-8"), "sha1")
    return f"{HASHED}{base64.b64encode(salt).decode('ascii')}|{base64.b64encode(mac).decode('ascii')}"


def _is_hash_of(text: str, name: str) -> bool:
    salt, mac = _salt_and_mac(text)
    return hmac.digest(salt, name.encode("utf-8"), "sha1") == mac


@lru_cache(maxsize=65536)
def _salt_and_mac(text: str) -> tuple[bytes, bytes]:
    """The parts of a hashed name, decoded; of one that is broken, what is the hash of no name."""
    try:
        _, _, salt, mac = text.split("|")
        return base64.b64decode(salt, validate=True), base64.b64decode(mac, validate=True)
    except ValueError:  # too few parts, or no base64
        return b"", b""


def _matches(pattern: str, name: str) -> bool:
    """Most are plain names, in files of many thousands: only a pattern is worth a regular expression."""
    return pattern == name if WILD.isdisjoint(pattern) else _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=8192)
def _compiled(pattern: str) -> re.Pattern[str]:
    """`*` is any number of characters, `?` is one, all others are themselves (brackets, too)."""
    wild = {"*": ".*", "?": "."}
    # Two stars are no more than one, and would be slow.
    return re.compile("".join(wild.get(letter, re.escape(letter)) for letter in re.sub(r"\*+", "*", pattern)))
