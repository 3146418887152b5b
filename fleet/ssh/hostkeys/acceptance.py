"""Which host keys are accepted for a host, and what to say of the one that it shows.

Fabric never loads known_hosts and accepts any key. Here the key that a host shows is held against what `knownhosts` has
of it, by OpenSSH's rules: a known key, or a certificate by an authority known for this name; never a revoked one. This
judges and changes nothing: a new key is stored by `newkeys`, where that is wanted.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fleet.onhost.text import safe
from fleet.ssh.hostkeys import certificates
from fleet.ssh.hostkeys.certificates import HostCertificate
from fleet.ssh.hostkeys.known_hosts import AUTHORITY, REVOKED, KnownKey, fingerprint, keys_of
from fleet.ssh.hostkeys.revocation import revokes
from fleet.ssh.link_errors import LinkError
from fleet.ssh.openssh_config import Settings

FindKeys = Callable[[tuple[str, ...], str], tuple[KnownKey, ...]]
ANOTHER_KEY = "Give the host a new key or certificate; the revoked one may be in other hands."
UNKNOWN = "host_key_unknown"
"""The only failure with a key that may be cured by accepting it."""


class _ParamikoKey(Protocol):
    @property
    def public_blob(self) -> object: ...
    def get_name(self) -> str: ...
    def asbytes(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """What a host shows of itself: its key, and the whole certificate around it, if it has one."""

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
    """What paramiko says of the key that a host has proved to have."""
    certificate = getattr(key.public_blob, "key_blob", None)
    return PresentedKey(key.get_name(), key.asbytes(), certificate)


@dataclass(frozen=True, slots=True)
class KnownHost:
    """What the known_hosts files say of a host. `host` is the name in a certificate, `name` the one in the files.

    `borrowed` keys are known for the name without the port: another key than these is unknown, not changed.
    `revoked_in` is a file of keys that are revoked for all hosts.
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
        """The types of the known keys, each once: the server should be asked for one of these first."""
        return tuple(dict.fromkeys(key.type for key in self.keys))

    def rejection(self, shown: PresentedKey, at_s: float) -> LinkError | None:
        """Why what the host shows is not accepted at that time (seconds since 1970); `None` when it is. Raises `LinkError` when
        the revoked keys can't be read.

        As OpenSSH: a certificate that proves nothing is looked at as the plain key inside it.
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


def known_host_for(settings: Settings, look: FindKeys = keys_of) -> KnownHost:
    """What is known of this host, by what `look` finds in its files. Raises `LinkError` when one can't be read."""
    files, name = settings.known_hosts, settings.key_name
    plain = settings.hostname.lower()
    is_alias = name not in (plain, f"[{plain}]:{settings.port}")
    found = look(files, name)
    borrowed: tuple[KnownKey, ...] = ()
    if not is_alias and name != plain:
        # As OpenSSH: what is known for the plain name holds for another port, too, where nothing else is known.
        borrowed = look(files, plain)
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
    """The certificate; one that nobody can read proves nothing, and its key is looked at alone."""
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
        f"THE HOST KEY OF {known.name} HAS CHANGED: it shows {shown.description}, "
        f"known is {expected}. Somebody may be in between, or the host was installed anew. Nothing was sent.",
        "Ask who changed it and compare the fingerprint on the host's console. Only then: "
        f"{forget}, and accept the new key: fleet trust.",
    )


def _revoked(known: KnownHost, key: KnownKey, *, is_authority: bool) -> LinkError:
    what = "a host certificate whose authority is revoked" if is_authority else "a host key that is revoked"
    return LinkError(
        "host_key_revoked",
        f"{known.name} shows {what}: {key.description}.",
        ANOTHER_KEY,
    )


def _revoked_in(known: KnownHost, file: str, shown: PresentedKey) -> LinkError:
    return LinkError(
        "host_key_revoked",
        f"{known.name} shows {shown.description}, and {file} (RevokedHostKeys) revokes that key, its certificate or its authority.",
        ANOTHER_KEY,
    )


def _refused_certificate(known: KnownHost, certificate: HostCertificate, fault: str) -> LinkError:
    by = next(key for key in known.authorities if key.blob == certificate.authority)
    return LinkError(
        "host_certificate_refused",
        safe(f"The host certificate of {known.name} {fault}; it is by {by.description}."),
        f"Have it signed anew on the host's side (ssh-keygen -h -n {known.host}), and see that both clocks are right.",
    )


def _unknown(known: KnownHost, shown: PresentedKey, certificate: HostCertificate | None) -> LinkError:
    where = f"in none of {', '.join(known.files)}" if known.files else "not known: ssh_config names no known_hosts file"
    text = f"The host key of {known.name} ({shown.description}) is {where}."
    authorities = ", ".join(key.description for key in known.authorities)
    if certificate is not None and known.authorities:
        by = f"{certificate.authority_type} {fingerprint(certificate.authority)}"
        text += f" Its certificate is by another authority, {by}, than the known one: {authorities}."
    elif known.authorities:
        text += f" It shows no certificate, though an authority is known for it: {authorities}."
    return LinkError(
        "host_key_unknown",
        text,
        "See its fingerprint, compare it with the host's console (ssh-keygen -lf on its public key), and accept it: "
        "fleet trust.",
    )
