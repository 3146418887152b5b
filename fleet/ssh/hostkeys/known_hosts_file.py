"""A reader of known_hosts files (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): which lines are about a name.

A process of `ssh-keygen -F` for each host costs more than all else that a host's key needs; this reads a file once for all.
`tests/ssh/hostkeys/test_known_hosts.py` compares its answers with those of ssh-keygen. It also hashes names for
HashKnownHosts.
"""

import base64
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

HASHED = "|1|"
WILD = frozenset("*?")
ODD = WILD | {"!"}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file: its number (from 1), its names, and its whole text."""

    number: int
    names: str
    text: bytes


class Lines:
    """The lines of a file that hold names. Those with plain names are found without a look at the others."""

    def __init__(self, data: bytes) -> None:
        self._plain: dict[str, list[Line]] = {}
        self._odd: list[Line] = []
        for line in _lines_of(data):
            if line.names.startswith(HASHED) or not ODD.isdisjoint(line.names):
                self._odd.append(line)
                continue
            for name in set(line.names.lower().split(",")):
                self._plain.setdefault(name, []).append(line)

    def about(self, name: str) -> list[tuple[int, bytes]]:
        """Number and text of each line about the name, in their order, with any marker and any key."""
        found = [*self._plain.get(name.lower(), ()), *(line for line in self._odd if matches_name(line.names, name))]
        return sorted((line.number, line.text) for line in found)


def _lines_of(data: bytes) -> Iterator[Line]:
    """The lines. OpenSSH parts them and their fields by ASCII's white space only, so that it is done in bytes."""
    for number, line in enumerate(data.split(b"\n"), 1):
        fields = line.split(None, 2)
        names = fields[1:2] if fields and fields[0].startswith(b"@") else fields[:1]
        if names and not names[0].startswith(b"#"):
            yield Line(number, names[0].decode("utf-8", "replace"), line)


def matches_name(names: str, name: str) -> bool:
    """Whether the names, patterns or hash of a line match this name."""
    if names.startswith(HASHED):
        return _is_hash_of(names, name)
    lower = name.lower()
    patterns = names.lower().split(",")
    if "!" in names and any(_matches(pattern[1:], lower) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(_matches(pattern, lower) for pattern in patterns if not pattern.startswith("!"))


def hashed(name: str, salt: bytes) -> str:
    """The hashed name, as HashKnownHosts writes it. The salt has 20 bytes."""
    mac = hmac.digest(salt, name.encode("utf-8"), "sha1")
    return f"{HASHED}{base64.b64encode(salt).decode('ascii')}|{base64.b64encode(mac).decode('ascii')}"


def _is_hash_of(text: str, name: str) -> bool:
    salt, mac = _salt_and_mac(text)
    return hmac.digest(salt, name.encode("utf-8"), "sha1") == mac


@lru_cache(maxsize=65536)
def _salt_and_mac(text: str) -> tuple[bytes, bytes]:
    """The decoded parts of a hashed name; empty for a broken one, which matches no name."""
    try:
        _, _, salt, mac = text.split("|")
        return base64.b64decode(salt, validate=True), base64.b64decode(mac, validate=True)
    except ValueError:  # too few parts, or no base64
        return b"", b""


def _matches(pattern: str, name: str) -> bool:
    """Only a pattern needs a regular expression: most of many thousand lines hold plain names."""
    return pattern == name if WILD.isdisjoint(pattern) else _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=8192)
def _compiled(pattern: str) -> re.Pattern[str]:
    """`*` matches any number of characters, `?` one; all others match themselves (brackets, too)."""
    wild = {"*": ".*", "?": "."}
    # Several stars match what one does, and more slowly.
    return re.compile("".join(wild.get(letter, re.escape(letter)) for letter in re.sub(r"\*+", "*", pattern)))
