"""A known_hosts file by its own rules (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): which of its lines speak of a name.

`ssh-keygen -F` is asked wherever there is one; this stands in on a laptop without OpenSSH's client, and a test holds its
answers to those of ssh-keygen. Names are hashed here, too, for `ssh_config`'s HashKnownHosts.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator
from functools import lru_cache

HASHED = "|1|"


def lines_about(text: str, name: str) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that speaks of the name, whatever its marker and its key are."""
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split()
        names = fields[1:2] if fields and fields[0].startswith("@") else fields[:1]
        if names and not names[0].startswith("#") and speaks_of(names[0], name):
            yield number, line


def speaks_of(names: str, name: str) -> bool:
    """Whether the names of a line, with their patterns, or its hash, mean this name."""
    if names.startswith(HASHED):
        return _is_hash_of(names, name)
    lower = name.lower()
    patterns = [pattern.lower() for pattern in names.split(",")]
    if any(_matches(pattern[1:], lower) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(_matches(pattern, lower) for pattern in patterns if not pattern.startswith("!"))


def hashed(name: str, salt: bytes) -> str:
    """The name so that only who knows it recognises it. The salt has 20 bytes."""
    mac = hmac.digest(salt, name.encode("utf-8"), hashlib.sha1)
    return f"{HASHED}{base64.b64encode(salt).decode('ascii')}|{base64.b64encode(mac).decode('ascii')}"


def _is_hash_of(text: str, name: str) -> bool:
    try:
        salt = base64.b64decode(text.split("|")[2], validate=True)
    except (IndexError, binascii.Error):
        return False
    return hashed(name, salt) == text


def _matches(pattern: str, name: str) -> bool:
    return _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=8192)
def _compiled(pattern: str) -> re.Pattern[str]:
    """`*` is any number of characters, `?` is one, all others are themselves (brackets, too)."""
    wild = {"*": ".*", "?": "."}
    # Two stars are no more than one, and would be slow.
    return re.compile("".join(wild.get(letter, re.escape(letter)) for letter in re.sub(r"\*+", "*", pattern)))
