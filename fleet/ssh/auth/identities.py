"""Which keys are offered to a host, and in which order.

sshd counts every key that it does not know, and disconnects after six (MaxAuthTries). OpenSSH offers all keys of the
agent before a configured file; fleet offers the configured files first, so that the keys of other hosts can't use up the
count. Where no file is configured (only `~/.ssh/id_*`), the agent's keys come first, as with OpenSSH. A certificate comes
before its plain key, and keys that need a touch come last.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import paramiko

from fleet.ssh.auth.agent import Agent, AgentKey
from fleet.ssh.auth.key_files import KeyFile, KeyFileState, PublicKey, certified, public_file

Sign = Callable[[bytes, str], bytes]
"""Signs bytes with an algorithm. Raises OSError when there is no signature."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A public key or certificate, and the function that signs for it. `shown` is its name for people."""

    public: PublicKey
    shown: str
    sign: Sign


@dataclass(frozen=True, slots=True)
class Offers:
    """The keys to offer, in this order, and the files that can't be used."""

    keys: tuple[Offer, ...]
    unused: tuple[KeyFile, ...]


def is_held(file: KeyFile, held: Sequence[AgentKey]) -> bool:
    """Whether the agent holds the key of this file."""
    return file.public is not None and any(key.public == file.public for key in held)


def offers_of(
    files: Sequence[KeyFile],
    certificate_files: Sequence[str],
    passphrase_of: Callable[[str], str | None],
    agent: Agent | None,
    *,
    identities_only: bool,
    agent_first: bool = False,
) -> Offers:
    """The offers for a host with these identity files. `passphrase_of` gives `None` for an unknown passphrase.
    `agent_first`: the files are OpenSSH's default list, and nothing configures them.
    """
    held = agent.held if agent is not None else ()
    certificates = _Certificates(files, certificate_files)
    by_agent: list[Offer] = []
    by_file: list[Offer] = []
    unused = []
    for file in files:
        listed = [file.public, *(cert for cert, _ in certificates.of(file.public))] if file.public else []
        known = [key for key in held if key.public in listed]
        if agent is not None and known:
            by_agent += _by_agent(agent, file, known, certificates)
            continue
        key = _private(file, passphrase_of(file.path))
        if key is not None:
            by_file += _by_file(file, key, certificates)
        elif file.state is not KeyFileState.NOTHING:
            unused.append(file)
    others = list(_others(agent, held, certificates)) if agent is not None and not identities_only else []
    plain = [offer for offer in others if not offer.public.is_token]
    tokens = [offer for offer in others if offer.public.is_token]
    rest = (*plain, *by_file, *tokens) if agent_first else (*by_file, *plain, *tokens)
    found: dict[PublicKey, Offer] = {}
    for offer in (*by_agent, *rest):
        found.setdefault(offer.public, offer)
    return Offers(tuple(found.values()), tuple(unused))


class _Certificates:
    """The certificates on this machine: the configured ones, and those beside the key files."""

    def __init__(self, files: Sequence[KeyFile], named: Sequence[str]) -> None:
        paths = [*named, *(f"{file.path.removesuffix('.pub')}-cert.pub" for file in files)]
        self._all = [
            (plain, certificate, path)
            for path in dict.fromkeys(paths)
            if (certificate := public_file(path)) is not None and (plain := certified(certificate)) is not None
        ]

    def of(self, public: PublicKey) -> list[tuple[PublicKey, str]]:
        """The certificates of a plain key, each with its file."""
        return [(certificate, path) for plain, certificate, path in self._all if plain == public]


def _private(file: KeyFile, passphrase: str | None) -> paramiko.PKey | None:
    """The private key of the file; `None` when it can't be read."""
    if file.state is not KeyFileState.PRIVATE and not (file.state is KeyFileState.LOCKED and passphrase):
        return None
    try:
        return file.private(passphrase if file.state is KeyFileState.LOCKED else None)
    except ValueError:
        return None


def _by_file(file: KeyFile, key: paramiko.PKey, certificates: _Certificates) -> Iterator[Offer]:
    def sign(data: bytes, algorithm: str) -> bytes:
        return key.sign_ssh_data(data, algorithm).asbytes()

    public = PublicKey(key.get_name(), key.asbytes())
    for certificate, path in certificates.of(public):
        yield Offer(certificate, path, sign)
    yield Offer(public, file.path, sign)


def _by_agent(agent: Agent, file: KeyFile, known: Sequence[AgentKey], certificates: _Certificates) -> Iterator[Offer]:
    """The key of a file, signed by the agent with what the agent lists: the plain key, or the certificate alone."""
    plain = next((key.public for key in known if key.public == file.public), None)
    for certificate, path in certificates.of(file.public) if file.public else ():
        signing = next((key.public for key in known if key.public == certificate), plain)
        if signing is not None:
            yield Offer(certificate, f"{path} (held by the agent)", partial(agent.sign, signing))
    if plain is not None:
        yield Offer(plain, f"{file.path} (held by the agent)", partial(agent.sign, plain))


def _others(agent: Agent, held: Sequence[AgentKey], certificates: _Certificates) -> Iterator[Offer]:
    """The agent's other keys."""
    for key in held:
        shown = f"{key.comment or key.public.type} (of the agent)"
        for certificate, path in certificates.of(key.public):
            yield Offer(certificate, f"{Path(path).name} ({shown})", partial(agent.sign, key.public))
        yield Offer(key.public, shown, partial(agent.sign, key.public))
