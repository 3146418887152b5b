"""A password that may be wrong is tried on one host before the others are given it.

Behind many hosts stands often one directory (LDAP, Active Directory) that counts failed logins for all of them: a
typing error, given to two hundred hosts at once, locks the account everywhere, and with it the way back. So the hosts
wait until one has taken the password. `MAX_REFUSALS` and not one, because a single host may have a password of its own.
"""

import time
from collections.abc import Callable
from threading import Condition

MAX_REFUSALS = 2
"""By so many hosts, while none has taken it. Accounts are locked at three, where they are locked early."""
PROVING_S = 20.0
"""How long the others wait for one host. It hangs then, or its directory is slow: one more is tried, not all of them."""
MAX_WAIT_S = 3 * PROVING_S
"""How long anybody waits. Where three hosts have not judged a password by then, they hang, and hold nobody up."""


PULSE_S = 1.0


class PasswordWithheld(Exception):
    """The password must not be given to this host. `refused_by` names others that refused it; none: this one did."""

    def __init__(self, refused_by: tuple[str, ...] = ()) -> None:
        super().__init__(refused_by)
        self.refused_by = refused_by


class PasswordGate:
    """What became of one user's password so far. An account that refused it is never given it again."""

    def __init__(self, proving_s: float = PROVING_S, most_wait_s: float = MAX_WAIT_S) -> None:
        self._proving_s = proving_s
        self._most_wait_s = most_wait_s
        self._next_at = 0.0
        self._changed = Condition()
        self._is_right = False
        self._under_way = 0
        self._refused: dict[str, str] = {}

    def enter(self, place: str, proceed: Callable[[], object] = lambda: None) -> None:
        """The password may be given to this account now, and `end` says what became of it. `proceed` is called again and
        again meanwhile, and at the end; what it raises ends the wait. Raises `PasswordWithheld`.
        """
        with self._changed:
            ends_at = time.monotonic() + self._most_wait_s
            while not self._is_settled() and (left_s := min(self._next_at, ends_at) - time.monotonic()) > 0:
                proceed()
                self._changed.wait(min(left_s, PULSE_S))
            proceed()
            if place in self._refused:
                raise PasswordWithheld
            if self._is_hopeless():
                raise PasswordWithheld(tuple(self._refused.values()))
            self._under_way += 1
            self._next_at = time.monotonic() + self._proving_s

    def report(self, place: str, name: str, taken: bool | None) -> None:
        """The account, of the host with this name, took the password or refused it; `None` when nobody knows."""
        with self._changed:
            self._under_way -= 1
            self._is_right = self._is_right or taken is True
            if taken is False:
                self._refused[place] = name
            self._changed.notify_all()

    def _is_settled(self) -> bool:
        return self._is_right or self._is_hopeless() or not self._under_way

    def _is_hopeless(self) -> bool:
        return not self._is_right and len(self._refused) >= MAX_REFUSALS
