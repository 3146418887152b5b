"""The operator's secrets: kept in this process's memory, and sent only to the host that asks for them.

They are never in a task, a journal, a log, an argument or the environment (`tests/ssh/auth/test_secrets.py`).
"""

from enum import Enum
from threading import Lock

from fleet.ssh.auth.password_gate import PasswordGate


class SecretKind(Enum):
    """What a secret is for. The name of a passphrase is its key file; the other two have none."""

    PASSPHRASE = "passphrase"
    LOGIN = "login"
    BECOME = "become"


class Secrets:
    """Secrets by kind and name. Its `repr` shows none of them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: dict[tuple[SecretKind, str], str] = {}
        self._gates: dict[tuple[SecretKind, str], PasswordGate] = {}

    def put(self, kind: SecretKind, value: str, name: str = "") -> None:
        """Keeps the secret."""
        with self._lock:
            self._known[kind, name] = value

    def get(self, kind: SecretKind, name: str = "") -> str | None:
        """The secret; `None` when it was not asked for."""
        with self._lock:
            return self._known.get((kind, name))

    def forget(self) -> None:
        """Drops every secret and every gate."""
        with self._lock:
            self._known.clear()
            self._gates.clear()

    def gate(self, kind: SecretKind, user: str) -> PasswordGate:
        """The gate for that kind of secret of this user."""
        with self._lock:
            return self._gates.setdefault((kind, user), PasswordGate())


SECRETS = Secrets()
