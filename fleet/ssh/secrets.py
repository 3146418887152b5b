"""What the operator was asked for once: kept in this process's memory, and given to nobody but the far end that wants it.

Never in a task, a journal, a log, an argument or the environment: a task names a host, and a worker looks here.
"""

import time
from enum import Enum
from threading import Condition

TRIAL_S = 15.0
"""How long one host may keep the others waiting for what it says of the password to become root."""


class Kind(Enum):
    """What a secret is for. Its name is the key file of a passphrase, and empty for the other two."""

    PASSPHRASE = "passphrase"
    LOGIN = "login"
    BECOME = "become"


class Secrets:
    """Secrets by kind and name. Its own text shows none of them."""

    def __init__(self) -> None:
        self._lock = Condition()
        self._known: dict[tuple[Kind, str], str] = {}
        self._refused: set[tuple[Kind, str]] = set()
        self._wrong_at: dict[Kind, str] = {}
        self._accepted: set[Kind] = set()
        self._tried_until_s = 0.0

    def put(self, kind: Kind, value: str, name: str = "") -> None:
        """The secret is known from now on."""
        with self._lock:
            self._known[kind, name] = value

    def get(self, kind: Kind, name: str = "") -> str | None:
        """The secret, or `None` when nobody was asked for it."""
        with self._lock:
            return self._known.get((kind, name))

    def forget(self) -> None:
        """Nothing is known any more."""
        with self._lock:
            self._known.clear()
            self._refused.clear()
            self._wrong_at.clear()
            self._accepted.clear()
            self._tried_until_s = 0.0

    def accept(self, kind: Kind) -> None:
        """The secret of that kind was accepted somewhere, so it is no slip of the operator's."""
        with self._lock:
            self._accepted.add(kind)
            self._lock.notify_all()

    def refuse(self, kind: Kind, place: str, *, as_wrong: bool) -> None:
        """The secret of that kind was refused at this place; unless `as_wrong`, that says nothing of other places."""
        with self._lock:
            self._refused.add((kind, place))
            if as_wrong:
                self._wrong_at.setdefault(kind, place)
            self._tried_until_s = 0.0
            self._lock.notify_all()

    def refused_at(self, kind: Kind, place: str) -> str | None:
        """Where the secret was refused, so that it must not be tried at this place; `None`: it may be.

        Never twice at one place, because hosts lock accounts for that. And the account may be a central one: until one
        place has accepted the secret it is tried at one at a time, and after a refusal at none. Waits for that.
        """
        with self._lock:
            while True:
                if (kind, place) in self._refused:
                    return place
                if kind in self._accepted:
                    return None
                if kind in self._wrong_at:
                    return self._wrong_at[kind]
                now_s = time.monotonic()
                if now_s >= self._tried_until_s:
                    self._tried_until_s = now_s + TRIAL_S
                    return None
                self._lock.wait(self._tried_until_s - now_s)


SECRETS = Secrets()
