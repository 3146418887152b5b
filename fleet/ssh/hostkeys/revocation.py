"""The file of revoked host keys (RevokedHostKeys in ssh_config): a list of public keys, or OpenSSH's KRL.

As with ssh, no host key is accepted while the file can't be read.
"""

import base64
import binascii
import subprocess
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path

from fleet.ssh.hostkeys.known_hosts import State
from fleet.ssh.link_errors import LinkError

ASK_TIMEOUT_S = 10.0
KRL = b"SSHKRL\n\0"
"""The first bytes of a key revocation list (PROTOCOL.krl). Only ssh-keygen reads the rest."""


def revokes(file: str, shown: bytes, keys: Collection[bytes]) -> bool:
    """Whether the file revokes the presented key or certificate, or one of the plain keys in it. Raises `LinkError`."""
    try:
        seen = Path(file).stat()
        state = seen.st_mtime_ns, seen.st_size, seen.st_ino
        listed = _listed_in(file, state)
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from error
    return _is_in_krl(file, state, shown) if listed is None else not listed.isdisjoint(keys)


@lru_cache(maxsize=16)
def _listed_in(file: str, state: State) -> frozenset[bytes] | None:
    """The keys of a list; `None` for a KRL. `state` is part of the cache key, so that a changed file is read again."""
    data = Path(file).read_bytes()
    return None if data.startswith(KRL) else frozenset(_listed(file, data))


@lru_cache(maxsize=8192)
def _is_in_krl(file: str, state: State, shown: bytes) -> bool:
    try:
        asked = subprocess.run(
            ["ssh-keygen", "-Q", "-f", file, "/dev/stdin"],
            input=_line(shown),
            capture_output=True,
            timeout=ASK_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unreadable(file, f"ssh-keygen failed: {error}") from error
    if asked.returncode not in (0, 1):
        raise _unreadable(file, asked.stderr.decode("utf-8", "replace").strip())
    return asked.returncode == 1


def _listed(file: str, data: bytes) -> Iterator[bytes]:
    """The keys of a list with lines `TYPE BASE64 [COMMENT]`. Raises `LinkError` for any other line, as ssh does."""
    for number, line in enumerate(data.split(b"\n"), 1):
        fields = line.split(None, 2)
        if not fields or fields[0].startswith(b"#"):
            continue
        try:
            key = base64.b64decode(fields[1], validate=True)
        except (IndexError, binascii.Error):
            key = b""
        if not key.startswith(len(fields[0]).to_bytes(4, "big") + fields[0]):
            raise _unreadable(file, f"line {number} is not a public key")
        yield key


def _line(blob: bytes) -> bytes:
    """The line of a `.pub` file. A key's bytes begin with its type (RFC 4253, 6.6)."""
    kind = blob[4 : 4 + int.from_bytes(blob[:4], "big")]
    return kind + b" " + base64.b64encode(blob) + b"\n"


def _unreadable(file: str, why: str) -> LinkError:
    return LinkError(
        "known_hosts_unreadable",
        f"The revoked host keys in {file} can't be read, so no host key is accepted: {why}.",
        f"Correct the file (ssh-keygen -lf {file}), or RevokedHostKeys in ssh_config, which names it.",
    )
