"""Which host keys are known for a host, and what to say of the key that it shows.

Fabric never loads known_hosts and accepts any key; paramiko's own reader fails on one marker line, doesn't know
patterns and keeps one key per type. So `ssh-keygen -F`, which reads the file as OpenSSH does (hashed names, patterns,
markers), is asked for the keys of this one host, and the key that the server shows is compared here. Nothing is added.
"""

import base64
import binascii
import hashlib
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fleet.ssh.resolve import Settings
from fleet.ssh.trouble import Trouble

ASK_TIMEOUT_S = 10.0
REVOKED = "@revoked"
AUTHORITY = "@cert-authority"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A line of known_hosts that speaks of the host. `marker` is empty for a plain key."""

    file: str
    line: int
    marker: str
    type: str
    blob: bytes

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Known:
    """What the known_hosts files say of a host: the keys to accept, those never to accept, and those not understood.

    `borrowed` keys are known for the name without the port: another key than these is unknown, not changed.
    """

    name: str
    files: tuple[str, ...]
    keys: tuple[KnownKey, ...] = ()
    revoked: tuple[KnownKey, ...] = ()
    authorities: tuple[KnownKey, ...] = ()
    borrowed: bool = False

    @property
    def types(self) -> tuple[str, ...]:
        """The types of the known keys, each once: the server should be asked for one of these first."""
        return tuple(dict.fromkeys(key.type for key in self.keys))

    def trouble_with(self, key_type: str, blob: bytes) -> Trouble | None:
        """Why the key that the server shows is not accepted; `None` when it is one of the known ones."""
        revoked = next((key for key in self.revoked if key.blob == blob), None)
        if revoked is not None:
            return _revoked(self, revoked)
        if any(key.blob == blob for key in self.keys):
            return None
        if self.keys and not self.borrowed:
            return _changed(self, key_type, blob)
        return _unknown(self, key_type, blob)


def known_for(settings: Settings) -> Known:
    """What is known of this host. Raises `Trouble` when a file can't be read."""
    files, name = settings.known_hosts, settings.key_name
    plain = settings.hostname.lower()
    found = _look(files, name)
    borrowed = name == f"[{plain}]:{settings.port}" and all(key.marker for key in found)
    if borrowed:
        # As OpenSSH: a key known for the plain name holds for another port, too.
        found += _look(files, plain)
    return Known(
        name,
        files,
        keys=tuple(key for key in found if not key.marker),
        revoked=tuple(key for key in found if key.marker == REVOKED),
        authorities=tuple(key for key in found if key.marker == AUTHORITY),
        borrowed=borrowed,
    )


def fingerprint(blob: bytes) -> str:
    """As `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


def _look(files: tuple[str, ...], name: str) -> tuple[KnownKey, ...]:
    found: list[KnownKey] = []
    for file in files:
        try:
            seen = Path(file).stat()
        except OSError:
            continue
        found.extend(_find(file, name, (seen.st_mtime_ns, seen.st_size, seen.st_ino)))
    return tuple(found)


@lru_cache(maxsize=8192)
def _find(file: str, name: str, state: tuple[int, int, int]) -> tuple[KnownKey, ...]:
    """The lines of `file` that speak of `name`. `state` only makes a changed file another question."""
    try:
        asked = subprocess.run(
            ["ssh-keygen", "-F", name, "-f", file], capture_output=True, timeout=ASK_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Trouble(
            "known_hosts_unreadable",
            f"ssh-keygen, which reads {file}, can't be run here: {error}.",
            "Install OpenSSH's client on this machine (Debian: openssh-client).",
        ) from error
    if asked.returncode not in (0, 1):
        said = asked.stderr.decode("utf-8", "replace").strip()
        raise Trouble(
            "known_hosts_unreadable",
            f"{file} can't be read: {said}.",
            f"Look at it with: ssh-keygen -F '{name}' -f {file}",
        )
    return tuple(_parse(file, asked.stdout.decode("utf-8", "replace")))


def _parse(file: str, output: str) -> list[KnownKey]:
    """The keys of ssh-keygen's answer: a comment with the line number, then the line. What is no key is passed over."""
    found = []
    line = 0
    for text in output.splitlines():
        if text.startswith("# Host "):
            number = text.rpartition(": line ")[2].split()
            line = int(number[0]) if number and number[0].isdigit() else 0
            continue
        fields = text.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        blob = _blob(fields)
        if blob is not None and marker in ("", REVOKED, AUTHORITY):
            found.append(KnownKey(file, line, marker, fields[1], blob))
    return found


def _blob(fields: list[str]) -> bytes | None:
    """The key of a known_hosts line; `None` when it is cut off or of another type than it says."""
    if len(fields) < 3:
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    kind = fields[1].encode("utf-8", "replace")
    return blob if blob.startswith(len(kind).to_bytes(4, "big") + kind) else None


def _changed(known: Known, key_type: str, blob: bytes) -> Trouble:
    same = [key for key in known.keys if key.type == key_type] or list(known.keys)
    expected = ", ".join(f"{key.type} {fingerprint(key.blob)} ({key.where})" for key in same)
    return Trouble(
        "host_key_changed",
        f"THE HOST KEY OF {known.name} HAS CHANGED: it shows {key_type} {fingerprint(blob)}, "
        f"known is {expected}. Somebody may be in between, or the host was installed anew. Nothing was sent.",
        "Ask who changed it and compare the fingerprint on the host's console. Only then: "
        f"ssh-keygen -R '{known.name}' -f {same[0].file}, and accept the new key with ssh.",
    )


def _revoked(known: Known, key: KnownKey) -> Trouble:
    return Trouble(
        "host_key_revoked",
        f"{known.name} shows a host key that is revoked: {key.type} {fingerprint(key.blob)} ({key.where}).",
        "Give the host a new key; the revoked one may be in other hands.",
    )


def _unknown(known: Known, key_type: str, blob: bytes) -> Trouble:
    shown = f"{key_type} {fingerprint(blob)}"
    if known.authorities:
        return Trouble(
            "host_key_unknown",
            f"The host key of {known.name} ({shown}) is not known: {known.authorities[0].where} names a certificate "
            "authority for it, and fleet doesn't read host certificates yet.",
            f"Add the host's own key to {known.files[0]}, after comparing its fingerprint on the host's console.",
        )
    return Trouble(
        "host_key_unknown",
        f"The host key of {known.name} ({shown}) is in none of {', '.join(known.files)}.",
        "Connect once with ssh and compare the fingerprint with the host's console (ssh-keygen -lf on its public key).",
    )
