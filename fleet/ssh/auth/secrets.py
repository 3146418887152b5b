"""What the operator was asked for once: kept in this process's memory, and given to nobody but the far end that wants it.

Never in a task, a journal, a log, an argument or the environment: a task names a host, and a worker looks here.
"""

from enum import Enum
from threading import Lock

from fleet.ssh.auth.password_gate import PasswordGate


class SecretKind(Enum):
    """What a secret is for. Its name is the key file of a passphrase, and empty for the other two."""

    PASSPHRASE = "passphrase"
    LOGIN = "login"
    BECOME = "become"


class Secrets:
    """Secrets by kind and name. Its own text shows none of them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: dict[tuple[SecretKind, str], str] = {}
        self._gates: dict[tuple[SecretKind, str], PasswordGate] = {}

    def put(self, kind: SecretKind, value: str, name: str = "") -> None:
        """The secret is known from now on."""
        with self._lock:
            self._known[kind, name] = value

    def get(self, kind: SecretKind, name: str = "") -> str | None:
        """The secret, or `None` when nobody was asked for it."""
        with self._lock:
            return self._known.get((kind, name))

    def forget(self) -> None:
        """Nothing is known any more."""
        with self._lock:
            self._known.clear()
            self._gates.clear()

    def gate(self, kind: SecretKind, user: str) -> PasswordGate:
        """What became of the secret of that kind on the hosts where this user gave it."""
        with self._lock:
            return self._gates.setdefault((kind, user), PasswordGate())


SECRETS = Secrets()
