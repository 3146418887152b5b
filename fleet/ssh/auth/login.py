"""The login at a host: by `none`, then by keys, then by the password if the operator gave one.

Nothing here asks the terminal: `prompts.prepare` did, before the run. When the login fails, the message names what was
offered, what could not be, and what the host accepts.
"""

import time

import paramiko

from fleet.onhost.text import safe
from fleet.ssh.auth.agent import Agent
from fleet.ssh.auth.identities import Offer, is_held, offers_of
from fleet.ssh.auth.key_files import KeyFile, KeyFileState, ends_at_s, read_key_file
from fleet.ssh.auth.password_gate import PasswordWithheld
from fleet.ssh.auth.secrets import SECRETS, SecretKind
from fleet.ssh.auth.userauth import INTERACTIVE, PASSWORD, PUBLICKEY, AuthTimeout, Disconnected, UserAuth
from fleet.ssh.link_errors import LinkError, LoginRefused, NoAnswer
from fleet.ssh.openssh_config import NamedBy, Settings

MAX_OFFERS = 6
"""sshd disconnects at the sixth failed attempt (MaxAuthTries)."""
NAME_IT = "ansible_ssh_private_key_file in the inventory, or IdentityFile with IdentitiesOnly in ssh_config"


class Login:
    """The keys and the password for one connection. paramiko's client calls `authenticate`."""

    def __init__(self, settings: Settings, timeout_s: float, password: str | None = None) -> None:
        """Raises `LinkError` when a configured key can't be used, and there is nothing else to offer."""
        self._settings = settings
        self._timeout_s = timeout_s
        self._password = password
        self._notes: list[str] = []
        self._offered: list[str] = []
        self._withheld = ""
        files = tuple(read_key_file(path) for path in settings.identity_files)
        self._agent = self._open_agent(settings)
        if settings.named_by is NamedBy.INVENTORY:
            self._refuse_unreadable(files)
        found = offers_of(
            files,
            settings.certificate_files,
            lambda path: SECRETS.get(SecretKind.PASSPHRASE, path),
            self._agent,
            identities_only=settings.identities_only,
            agent_first=settings.named_by is NamedBy.OPENSSH,
        )
        self._offers, self._unused = found.keys, found.unused
        if self._unused and not self._offers and password is None and settings.named_by is not NamedBy.OPENSSH:
            self.close()
            raise _unusable(self._unused)

    def close(self) -> None:
        """Closes the connection to the agent, if there is one."""
        if self._agent is not None:
            self._agent.close()

    def authenticate(self, transport: paramiko.Transport) -> list[str]:
        """Logs in. Raises `LinkError` when the login fails, and paramiko's errors when the connection breaks."""
        asking = UserAuth(transport, self._settings.user, self._timeout_s)
        try:
            if asking.begin() or self._by_keys(asking) or self._by_password(asking):
                return []
        except Disconnected as error:
            raise self._login_error(asking, is_disconnected=True) from error
        except AuthTimeout as error:
            raise NoAnswer(
                "no_answer",
                f"{self._settings.endpoint} did not answer the login of {self._settings.user} within "
                f"{self._timeout_s:g} s.",
                "Look at the host's sshd log (journalctl -u sshd): it may wait for DNS, a directory or a full disk.",
            ) from error
        raise self._login_error(asking)

    def _open_agent(self, settings: Settings) -> Agent | None:
        if settings.agent is None:
            return None
        try:
            return Agent(settings.agent, self._timeout_s)
        except OSError as error:
            self._notes.append(f"the agent at {settings.agent} does not answer: {error}")
            return None

    def _refuse_unreadable(self, files: tuple[KeyFile, ...]) -> None:
        """Raises `LinkError` for a file in the inventory without a usable key, unless the agent holds the key."""
        held = self._agent.held if self._agent is not None else ()
        for file in files:
            if file.state not in (KeyFileState.NOTHING, KeyFileState.NO_KEY) or is_held(file, held):
                continue
            self.close()
            why = f": {file.why}" if file.why else ""
            add = f"; if ssh can use it, run: ssh-add {file.path}" if file.public else ""
            raise LinkError(
                "key_unreadable",
                f"The private key {file.path} {file.state.value}{why}.",
                f"Correct ansible_ssh_private_key_file in the inventory, or the file{add}.",
            )

    def _by_keys(self, asking: UserAuth) -> bool:
        left = MAX_OFFERS - (self._password is not None)
        for offer in self._offers[:left]:
            if PUBLICKEY not in asking.accepted:
                return False
            self._offered.append(_shown(offer))
            try:
                if asking.offer(offer.public, offer.sign):
                    return True
            except OSError as error:
                if not asking.transport.is_active():
                    raise
                self._notes.append(f"{offer.shown}: {error}")
            except paramiko.AuthenticationException as error:  # no common algorithm for an RSA key
                self._notes.append(f"{offer.shown}: {error}")
        if len(self._offers) > left:
            self._notes.append(f"{len(self._offers) - left} more keys of the agent were not offered")
        return False

    def _by_password(self, asking: UserAuth) -> bool:
        if self._password is None or not {PASSWORD, INTERACTIVE} & set(asking.accepted):
            return False
        there, jump = self._settings.endpoint, self._settings.jump
        account = f"{there} behind {jump.endpoint}" if jump else there
        gate = SECRETS.gate(SecretKind.LOGIN, self._settings.user)
        try:
            gate.enter(account)
        except PasswordWithheld as error:
            self._withheld = _withheld(error.refused_by)
            return False
        self._offered.append("the password")
        proofs, taken = asking.proofs, None
        try:
            is_in = asking.give(self._password)
            taken = is_in or asking.proofs > proofs
        except Disconnected:  # as sshd does when that was one try too many
            taken = False
            raise
        finally:
            gate.report(account, there, taken)
        return is_in

    def _login_error(self, asking: UserAuth, *, is_disconnected: bool = False) -> LinkError:
        """The error: what was offered, and what to do. An unusable key that was configured is the likely cause."""
        settings = self._settings
        facts = [f"{settings.endpoint} refused the login of {settings.user}"]
        facts.append(f"offered: {', '.join(self._offered) or 'nothing'}")
        if is_disconnected:
            facts.append(f"it disconnected after {len(self._offered)}")
        if asking.proofs:
            facts.append("it accepted a part of it and requires more")
        if asking.accepted:
            facts.append(f"it accepts {safe(', '.join(asking.accepted))}")
        if self._withheld:
            facts.append(self._withheld)
        facts += self._notes
        named = settings.named_by is not NamedBy.OPENSSH
        if self._unused and (named or not self._offered):
            return _unusable(self._unused, "; ".join(facts))
        facts += [f"{file.path} {file.state.value}" for file in self._unused]
        return LoginRefused(
            "auth_failed", "; ".join(facts) + ".", self._remedy(asking, is_disconnected=is_disconnected)
        )

    def _remedy(self, asking: UserAuth, *, is_disconnected: bool) -> str:
        if self._withheld:
            return "See that the account is not locked (faillock --user), then run the command again with the right password."
        accepts = set(asking.accepted)
        if is_disconnected and len(self._offered) > 1:
            return f"Configure the one key of this host: {NAME_IT}."
        if accepts and PUBLICKEY not in accepts and self._password is None and {PASSWORD, INTERACTIVE} & accepts:
            return "The host accepts a password only: give it with --ask-pass, or set PubkeyAuthentication in its sshd_config."
        if not self._offered:
            return f"Configure a key: ssh-add, or {NAME_IT}."
        if PUBLICKEY not in accepts and "the password" in self._offered:
            return "See that the password and the user (ansible_user) are right."
        also = ", that the password is right" if "the password" in self._offered else ""
        locked = next((file.path for file in self._unused if file.state is KeyFileState.LOCKED), None)
        if locked is not None:
            also += f" (if it is {locked}: ssh-add it first)"
        return (
            f"See that the public key is in the authorized_keys of {self._settings.user} there{also} and that the user is "
            "right (ansible_user); ssh -v shows more."
        )


def _shown(offer: Offer) -> str:
    """The offer for people; of a certificate also whether it has expired."""
    if not offer.public.is_certificate:
        return offer.shown
    ends_at = ends_at_s(offer.public)
    is_over = ends_at is not None and ends_at < time.time()
    return f"{offer.shown} (a certificate{' that has expired' if is_over else ''})"


def _withheld(refused_by: tuple[str, ...]) -> str:
    """Why the password was not sent."""
    if not refused_by:
        return "the password was refused on this host before in this run, and is not sent again"
    return (
        f"the password was rejected by {' and '.join(refused_by)} and accepted by no host: fleet does not send it to this one, "
        "because a directory behind all of them would lock the account"
    )


def _unusable(unused: tuple[KeyFile, ...], facts: str = "") -> LinkError:
    """The error for unusable keys. The remedy is for the first of them."""
    file = unused[0]
    others = "".join(f"; {each.path} {each.state.value}" for each in unused[1:])
    why = f" ({file.why})" if file.why else ""
    remedies = {
        KeyFileState.LOCKED: f"Unlock it once for all hosts: ssh-add {file.path}",
        KeyFileState.TOKEN: f"Add it to the agent: ssh-add {file.path}",
        KeyFileState.PUBLIC: f"Add the private half to the agent: ssh-add {file.path.removesuffix('.pub')}",
    }
    return LinkError(
        "key_unreadable",
        f"The private key {file.path} {file.state.value}{why}{others}{'; ' if facts else ''}{facts}.",
        remedies.get(file.state, f"Correct the file, or what names it: {NAME_IT}."),
    )
