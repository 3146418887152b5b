"""Whether the key that a host presents is accepted, and the error if it is not.

Fabric never loads known_hosts and accepts any key. Here the key is compared with known_hosts by OpenSSH's rules: it must
be a known key, or a certificate by an authority that is known for this name; never a revoked one. This module only
judges; `added_keys` stores a new key.
"""

import shlex
from dataclasses import dataclass
from typing import Protocol

from fleet.onhost.text import safe
from fleet.ssh.hostkeys import certificates
from fleet.ssh.hostkeys.certificates import HostCertificate
from fleet.ssh.hostkeys.known_hosts import AUTHORITY, REVOKED, KnownKey, fingerprint, keys_of
from fleet.ssh.hostkeys.revocation import revokes
from fleet.ssh.link_errors import LinkError
from fleet.ssh.openssh_config import Settings

ANOTHER_KEY = "Give the host a new key (ssh-keygen -A) or certificate: others may have the revoked one."
UNKNOWN = "host_key_unknown"
"""The only rejection that accepting the key resolves."""


class _ParamikoKey(Protocol):
    @property
    def public_blob(self) -> object: ...
    def get_name(self) -> str: ...
    def asbytes(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """The key that a host presented, and the whole certificate around it, if there is one."""

    type: str
    blob: bytes
    certificate: bytes | None = None

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.blob)

    @property
    def description(self) -> str:
        """The key, for people."""
        return f"{self.type} {self.fingerprint}"


def presented(key: _ParamikoKey) -> PresentedKey:
    """The key that a host presented and proved to hold, from paramiko's key."""
    certificate = getattr(key.public_blob, "key_blob", None)
    return PresentedKey(key.get_name(), key.asbytes(), certificate)


@dataclass(frozen=True, slots=True)
class KnownHost:
    """What the known_hosts files hold for a host. `host` is its name in a certificate, `name` its name in the files.

    `borrowed`: the keys are those of the name without the port, so that a different key is unknown, not changed.
    `revoked_in`: a file of keys that are revoked for all hosts.
    """

    name: str
    host: str
    files: tuple[str, ...]
    keys: tuple[KnownKey, ...] = ()
    revoked: tuple[KnownKey, ...] = ()
    authorities: tuple[KnownKey, ...] = ()
    borrowed: bool = False
    revoked_in: str | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """The types of the known keys, each once: fleet requests one of these first."""
        return tuple(dict.fromkeys(key.type for key in self.keys))

    def rejection(self, shown: PresentedKey, at_s: float) -> LinkError | None:
        """Why the key is not accepted at the time `at_s` (seconds since 1970); `None` when it is accepted.

        As in OpenSSH, an unusable certificate counts as the plain key in it. Raises `LinkError` when the file of revoked
        keys can't be read.
        """
        certificate = _read(shown)
        blobs = {shown.blob, certificate.authority if certificate else shown.blob}
        revoked = next((key for key in self.revoked if key.blob in blobs), None)
        if revoked is not None:
            return _revoked(self, revoked, is_authority=revoked.blob != shown.blob)
        if self.revoked_in is not None and revokes(self.revoked_in, shown.certificate or shown.blob, blobs):
            return _revoked_in(self, self.revoked_in, shown)
        if any(key.blob == shown.blob for key in self.keys):
            return None
        if certificate is not None and any(key.blob == certificate.authority for key in self.authorities):
            fault = certificate.fault(self.host, at_s)
            return None if fault is None else _refused_certificate(self, certificate, fault)
        if self.keys and not self.borrowed:
            return _changed(self, shown)
        return _unknown(self, shown, certificate)


def known_host_for(settings: Settings) -> KnownHost:
    """What is known of this host. Raises `LinkError` when one can't be read."""
    files, name = settings.known_hosts, settings.key_name
    plain = settings.hostname.lower()
    is_alias = name not in (plain, f"[{plain}]:{settings.port}")
    found = keys_of(files, name)
    borrowed: tuple[KnownKey, ...] = ()
    if not is_alias and name != plain:
        # As in OpenSSH, a key of the plain name counts for another port, if there is no other key for that port.
        borrowed = keys_of(files, plain)
    own = tuple(key for key in found if not key.marker)
    every = tuple(dict.fromkeys(found + borrowed))
    return KnownHost(
        name,
        name if is_alias else plain,
        files,
        keys=own or tuple(key for key in borrowed if not key.marker),
        revoked=tuple(key for key in every if key.marker == REVOKED),
        authorities=tuple(key for key in every if key.marker == AUTHORITY),
        borrowed=not own,
        revoked_in=settings.revoked_keys,
    )


def _read(shown: PresentedKey) -> HostCertificate | None:
    """The certificate; `None` when there is none, or it can't be read: then only its plain key counts."""
    if shown.certificate is None:
        return None
    try:
        return certificates.read(shown.certificate)
    except ValueError:
        return None


def _changed(known: KnownHost, shown: PresentedKey) -> LinkError:
    same = [key for key in known.keys if key.type == shown.type] or list(known.keys)
    expected = ", ".join(key.description for key in same)
    files = dict.fromkeys(key.file for key in known.keys)
    forget = "; ".join(f"ssh-keygen -R {shlex.quote(known.name)} -f {shlex.quote(file)}" for file in files)
    return LinkError(
        "host_key_changed",
        f"THE HOST KEY OF {known.name} HAS CHANGED: it presents {shown.description}, and known_hosts has {expected}. "
        "An attacker may be on the way, or the host was reinstalled. Nothing was sent.",
        "Ask who changed it, and compare the fingerprint with the host's console. Only then run: "
        f"{forget}, and accept the new key: fleet trust.",
    )


def _revoked(known: KnownHost, key: KnownKey, *, is_authority: bool) -> LinkError:
    what = "a host certificate whose authority is revoked" if is_authority else "a host key that is revoked"
    return LinkError(
        "host_key_revoked",
        f"{known.name} presents {what}: {key.description}.",
        ANOTHER_KEY,
    )


def _revoked_in(known: KnownHost, file: str, shown: PresentedKey) -> LinkError:
    return LinkError(
        "host_key_revoked",
        f"{known.name} presents {shown.description}; {file} (RevokedHostKeys) revokes that key, its certificate or its "
        "authority.",
        ANOTHER_KEY,
    )


def _refused_certificate(known: KnownHost, certificate: HostCertificate, fault: str) -> LinkError:
    by = next(key for key in known.authorities if key.blob == certificate.authority)
    return LinkError(
        "host_certificate_refused",
        safe(f"The host certificate of {known.name} {fault}; it is signed by {by.description}."),
        f"Sign the host's key again (ssh-keygen -s CA -h -n {known.host}), and see that both clocks are right (date -u).",
    )


def _unknown(known: KnownHost, shown: PresentedKey, certificate: HostCertificate | None) -> LinkError:
    where = f"in none of {', '.join(known.files)}" if known.files else "unknown: ssh_config names no known_hosts file"
    text = f"The host key of {known.name} ({shown.description}) is {where}."
    authorities = ", ".join(key.description for key in known.authorities)
    if certificate is not None and known.authorities:
        by = f"{certificate.authority_type} {fingerprint(certificate.authority)}"
        text += f" Its certificate is signed by another authority, {by}, than the known one: {authorities}."
    elif known.authorities:
        text += f" It presents no certificate, though an authority is known for it: {authorities}."
    return LinkError(
        "host_key_unknown",
        text,
        "Compare its fingerprint with the host's console (ssh-keygen -lf on its public key), then accept it: fleet trust.",
    )
