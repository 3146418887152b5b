"""What we may prove ourselves with to a host: the key that the inventory names, and then no other one.

Each key that is offered counts against the server's MaxAuthTries, so nothing is offered that wasn't asked for. A key
whose file needs a passphrase is taken from the agent, as OpenSSH does; nothing here ever asks the terminal.
"""

from functools import lru_cache
from pathlib import Path

import paramiko
from paramiko.pkey import PublicBlob, UnknownKeyType

from fleet.ssh.resolve import Settings
from fleet.ssh.trouble import Trouble


class Login:
    """The user and the keys for one connection. `key` is `None` when the agent and ~/.ssh/id_* are to be tried."""

    def __init__(self, settings: Settings) -> None:
        self.key: paramiko.PKey | None = None
        named = settings.identity_files if settings.identities_only else ()
        self.more_files = [name for name in settings.identity_files if Path(name).is_file()][len(named[:1]) :]
        self.tried = ", ".join(named) or "the agent's keys and the identity files"
        self._agent: paramiko.Agent | None = None
        if named:
            self.key = self._load(Path(named[0]))

    def close(self) -> None:
        """The connection to the agent, if there was one, is closed."""
        if self._agent is not None:
            self._agent.close()

    def _load(self, path: Path) -> paramiko.PKey:
        try:
            seen = path.stat()
            return _read(path, (seen.st_mtime_ns, seen.st_size, seen.st_ino))
        except TypeError:  # cryptography's word for a key that needs a passphrase
            return self._from_agent(path)
        except (OSError, ValueError, paramiko.SSHException, UnknownKeyType) as error:
            raise Trouble(
                "key_unreadable",
                f"The private key {path} can't be read: {error}.",
                "Correct ansible_ssh_private_key_file in the inventory, or the file.",
            ) from error

    def _from_agent(self, path: Path) -> paramiko.PKey:
        try:
            blob = PublicBlob.from_file(f"{path}.pub").key_blob
            self._agent = paramiko.Agent()
            found = next((key for key in self._agent.get_keys() if key.asbytes() == blob), None)
        except (OSError, ValueError, paramiko.SSHException):
            found = None
        if found is not None:
            self.tried = f"{path} (held by the agent)"
            return found
        self.close()
        raise Trouble(
            "key_unreadable",
            f"The private key {path} needs a passphrase, and the agent doesn't hold it.",
            f"Unlock it once for all hosts: ssh-add {path}",
        )


@lru_cache(maxsize=256)
def _read(path: Path, state: tuple[int, int, int]) -> paramiko.PKey:
    """The key of a file; `state` only makes a changed file another question. An RSA key takes 30 ms to check."""
    return paramiko.PKey.from_path(path)
