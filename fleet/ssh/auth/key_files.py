"""The key files of this machine: the state of each, its public key (without the passphrase), and its private key.

As with OpenSSH, a file may hold only a public key whose private half is in the agent, and a certificate beside it
(`k-cert.pub` for `k`) belongs to it. All visits share a parsed key: checking RSA takes 30 ms, a passphrase longer.
"""

import base64
import binascii
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from io import StringIO
from pathlib import Path
from threading import Lock
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"
MAGIC = b"openssh-key-v1\0"
TOKEN_PREFIX = "sk-"
CERTIFICATE_SUFFIX = "-cert-v01@openssh.com"
TOKEN_FIELDS = {"sk-ssh-ed25519@openssh.com": 2, "sk-ecdsa-sha2-nistp256@openssh.com": 3}
"""How many strings such a public key has: the curve (ecdsa only), the point, the application."""
UNPARSED = (ValueError, TypeError, LookupError, UnsupportedAlgorithm, paramiko.SSHException)


class KeyFileState(Enum):
    """What is at a key's path. `TOKEN`: a FIDO key, whose private half never leaves the token."""

    NOTHING = "does not exist"
    NO_KEY = "can't be read"
    PUBLIC = "holds only the public half, and the agent does not have the private one"
    TOKEN = "is a FIDO key, which fleet can use through the agent only"
    LOCKED = "needs a passphrase, and the agent does not hold the key"
    PRIVATE = "holds the private key"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key or a certificate, in its wire format."""

    type: str
    blob: bytes

    @property
    def is_certificate(self) -> bool:
        return self.type.endswith(CERTIFICATE_SUFFIX)

    @property
    def is_token(self) -> bool:
        """Whether each signature needs a touch of the token."""
        return self.type.startswith(TOKEN_PREFIX)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file and its state. `public` is `None` where it can't be read without the passphrase. `why`: the error, if any."""

    path: str
    state: KeyFileState
    public: PublicKey | None = None
    why: str = ""

    def private(self, passphrase: str | None = None) -> paramiko.PKey:
        """The private key. Raises ValueError when the file holds none, or the passphrase is wrong or missing."""
        try:
            return _shared(Path(self.path).read_bytes(), passphrase)
        except (OSError, *UNPARSED) as error:
            raise ValueError(str(error)) from error


def read_key_file(path: str) -> KeyFile:
    """The key file at this path. The operator is not asked for a passphrase."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        beside = public_file(f"{path}.pub")
        return KeyFile(path, KeyFileState.PUBLIC if beside else KeyFileState.NOTHING, beside)
    except OSError as error:
        return KeyFile(path, KeyFileState.NO_KEY, public_file(f"{path}.pub"), error.strerror or str(error))
    listed = _line(data)
    if listed is not None:
        return KeyFile(path, KeyFileState.PUBLIC, listed)
    public = _inside(data) or public_file(f"{path}.pub")
    if public is not None and public.is_token:
        return KeyFile(path, KeyFileState.TOKEN, public)
    try:
        key = _shared(data, None)
    except TypeError:  # cryptography raises it for a key that needs a passphrase
        return KeyFile(path, KeyFileState.LOCKED, public)
    except UNPARSED as error:
        return KeyFile(path, KeyFileState.NO_KEY, public, str(error))
    return KeyFile(path, KeyFileState.PRIVATE, PublicKey(key.get_name(), key.asbytes()))


def public_file(path: str) -> PublicKey | None:
    """The public key or certificate of a `.pub` file; `None` when there is none."""
    try:
        return _line(Path(path).read_bytes())
    except OSError:
        return None


def certified(certificate: PublicKey) -> PublicKey | None:
    """The plain public key in a user certificate; `None` when it is no user certificate."""
    if certificate.is_token:
        return _token_of(certificate)
    found = _certificate(certificate)
    if found is None or found.type is not serialization.SSHCertificateType.USER:
        return None
    openssh = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return _line(found.public_key().public_bytes(*openssh))


def ends_at_s(certificate: PublicKey) -> int | None:
    """When a certificate ends, in seconds since 1970; `None` when it can't be read."""
    found = _certificate(certificate)
    return None if found is None else found.valid_before


def _token_of(certificate: PublicKey) -> PublicKey | None:
    """The FIDO key in a certificate, which cryptography can't read (OpenSSH: PROTOCOL.u2f)."""
    kind = f"{certificate.type.removesuffix(CERTIFICATE_SUFFIX)}@openssh.com"
    if kind not in TOKEN_FIELDS:
        return None
    message = paramiko.Message(certificate.blob)
    for _ in ("type", "nonce"):
        message.get_binary()
    plain = paramiko.Message()
    plain.add_string(kind)
    for _ in range(TOKEN_FIELDS[kind]):
        plain.add_string(message.get_binary())
    return PublicKey(kind, plain.asbytes())


def _certificate(certificate: PublicKey) -> serialization.SSHCertificate | None:
    try:
        line = f"{certificate.type} {base64.b64encode(certificate.blob).decode('ascii')}"
        found = serialization.load_ssh_public_identity(line.encode("ascii"))
    except UNPARSED:
        return None
    return found if isinstance(found, serialization.SSHCertificate) else None


def _line(data: bytes) -> PublicKey | None:
    """The key of a line `TYPE BASE64 [COMMENT]`; `None` when it is no such line."""
    fields = data.split(None, 2)
    if len(fields) < 2 or data.startswith(b"-----"):
        return None
    try:
        blob = base64.b64decode(fields[1], validate=True)
    except (binascii.Error, ValueError):
        return None
    return PublicKey(fields[0].decode("ascii"), blob) if fields[0].isascii() and _type_of(blob) == fields[0] else None


def _inside(data: bytes) -> PublicKey | None:
    """The public half that OpenSSH's own format shows without the passphrase (PROTOCOL.key)."""
    if not data.lstrip().startswith(OPENSSH):
        return None
    try:
        body = base64.b64decode(b"".join(data.strip().splitlines()[1:-1]))
    except (binascii.Error, ValueError):
        return None
    message = paramiko.Message(body[len(MAGIC) :])
    for _ in ("cipher", "kdf", "kdf options"):
        message.get_binary()
    message.get_int()
    blob = message.get_binary()
    kind = _type_of(blob)
    return PublicKey(kind.decode("ascii"), blob) if kind and kind.isascii() else None


def _type_of(blob: bytes) -> bytes:
    return paramiko.Message(blob).get_binary()


_PARSING = Lock()


def _shared(data: bytes, passphrase: str | None) -> paramiko.PKey:
    """The parsed key. Visits that start together wait for the first one, which parses it once for all."""
    with _PARSING:
        return _parsed(data, passphrase)


@lru_cache(maxsize=256)
def _parsed(data: bytes, passphrase: str | None) -> paramiko.PKey:
    secret = None if passphrase is None else passphrase.encode()
    loaded: Any
    try:
        loaded = serialization.load_ssh_private_key(data, secret)
    except ValueError:
        if OPENSSH in data:
            raise
        loaded = serialization.load_pem_private_key(data, secret)
    # paramiko reads fewer formats than cryptography, so it gets the one that it knows for all types.
    plain = loaded.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return _class_of(loaded).from_private_key(StringIO(plain.decode("ascii")))


def _class_of(loaded: object) -> type[paramiko.PKey]:
    if isinstance(loaded, rsa.RSAPrivateKey):
        return paramiko.RSAKey
    if isinstance(loaded, ed25519.Ed25519PrivateKey):
        return paramiko.Ed25519Key
    if isinstance(loaded, ec.EllipticCurvePrivateKey):
        return paramiko.ECDSAKey
    raise ValueError(f"a key of the type {type(loaded).__name__} can't be used for a login")
