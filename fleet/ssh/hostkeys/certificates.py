"""Host certificates: a host's key, signed by an authority in an `@cert-authority` line of known_hosts.

paramiko checks that the host holds the key, and ignores the certificate around it. This module checks what OpenSSH
checks (sshconnect.c, `sshkey_cert_check_host`): the certificate is for hosts, for this name, valid now, without critical
options, and has a valid signature, not with SHA-1. cryptography reads it; the authority's bytes are read here
(PROTOCOL.certkeys).
"""

from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)

SUFFIX = "-cert-v01@openssh.com"
FOR_EVER = (1 << 64) - 1
KEY_STRINGS = {
    "ssh-ed25519": 1,
    "ssh-rsa": 2,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
}
"""How many strings a public key has, by its type."""
SIGNATURES = (
    *("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    *("rsa-sha2-512", "rsa-sha2-256"),
)
"""OpenSSH's CASignatureAlgorithms without those of FIDO keys, which cryptography can't check."""


@dataclass(frozen=True, slots=True)
class HostCertificate:
    """A certificate that a host presents. `authority`: the key that signed it, in known_hosts' format."""

    content: SSHCertificate
    authority_type: str
    authority: bytes
    signature_type: str

    def fault(self, name: str, at_s: float) -> str | None:
        """Why it is not valid for the host of this name, as the end of a sentence; `None` when it is valid.

        The caller checks that the authority may sign for the host.
        """
        content = self.content
        principals = [each.decode("utf-8", "replace") for each in content.valid_principals]
        if content.type is not SSHCertificateType.HOST:
            return "is for users, not for hosts"
        if principals and name not in principals:  # as in OpenSSH, a certificate without a name is for every host
            return f"is for {', '.join(principals)}, not for {name}"
        if at_s < content.valid_after:
            return f"is not valid before {_time(content.valid_after)} (this machine's clock: {_time(int(at_s))})"
        if content.valid_before != FOR_EVER and at_s >= content.valid_before:
            return f"expired at {_time(content.valid_before)} (this machine's clock: {_time(int(at_s))})"
        if content.critical_options:
            return "has critical options, which no host certificate may have"
        if self.signature_type not in SIGNATURES:
            return f"is signed with {self.signature_type}, which fleet does not accept"
        return None if self._is_signed() else "is not signed by the authority that it names"

    def _is_signed(self) -> bool:
        try:
            self.content.verify_cert_signature()
        except (InvalidSignature, UnsupportedAlgorithm, ValueError, AssertionError):
            return False
        return True


def read(blob: bytes) -> HostCertificate:
    """The certificate. Raises `ValueError` when it is none, or can't be read."""
    kind, rest = _string(blob)
    strings = KEY_STRINGS.get(kind.decode("ascii", "replace").removesuffix(SUFFIX))
    if strings is None or not kind.endswith(SUFFIX.encode("ascii")):
        raise ValueError("not a certificate of a known type")
    try:
        content = load_ssh_public_identity(kind + b" " + b64encode(blob))
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    if not isinstance(content, SSHCertificate):
        raise ValueError("not a certificate")
    rest = _after_strings(rest, 1 + strings)[8 + 4 :]  # a nonce and the key; then a serial number and the type
    rest = _after_strings(rest, 2)[8 + 8 :]  # the id and the names; then the times
    authority, rest = _string(_after_strings(rest, 3))  # critical options, extensions, reserved
    signature, _ = _string(rest)
    return HostCertificate(
        content,
        authority_type=_string(authority)[0].decode("ascii", "replace"),
        authority=authority,
        signature_type=_string(signature)[0].decode("ascii", "replace"),
    )


def _after_strings(data: bytes, count: int) -> bytes:
    for _ in range(count):
        _, data = _string(data)
    return data


def _string(data: bytes) -> tuple[bytes, bytes]:
    """The first string of the data, and the rest (RFC 4251, 5). Raises `ValueError`."""
    end = 4 + int.from_bytes(data[:4], "big")
    if len(data) < max(4, end):
        raise ValueError("it is cut off")
    return data[4:end], data[end:]


def _time(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%F %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s after 1970"
