"""The gate before a password: it is sent to one host first, and to the others once a host has accepted it.

Many hosts often share one directory (LDAP, Active Directory), which counts failed logins for all of them. A mistyped
password, sent to two hundred hosts at once, locks the account everywhere, and makes a rollback impossible. fleet stops
after `MAX_REFUSALS`, not after one, because a single host may have its own password.
"""

import time
from collections.abc import Callable
from threading import Condition

MAX_REFUSALS = 2
"""So many hosts may refuse it while none has accepted it. Strict directories lock an account at three failures."""
PROVING_S = 20.0
"""How long the others wait for one host. If it takes longer, one more host is tried, not all of them."""
MAX_WAIT_S = 3 * PROVING_S
"""How long any host waits. If three hosts have not answered by then, they hang, and the others continue without them."""
PULSE_S = 1.0


class PasswordWithheld(Exception):
    """The password must not be sent to this host. `refused_by`: the hosts that refused it; empty when this one did."""

    def __init__(self, refused_by: tuple[str, ...] = ()) -> None:
        super().__init__(refused_by)
        self.refused_by = refused_by


class PasswordGate:
    """The gate of one user's password. An account that refused it is never sent it again."""

    def __init__(self, proving_s: float = PROVING_S, most_wait_s: float = MAX_WAIT_S) -> None:
        self._proving_s = proving_s
        self._most_wait_s = most_wait_s
        self._next_at = 0.0
        self._changed = Condition()
        self._is_right = False
        self._under_way = 0
        self._refused: dict[str, str] = {}

    def enter(self, account: str, proceed: Callable[[], object] = lambda: None) -> None:
        """Returns when the password may be sent to the account `account`; the caller must `report` the result.

        `proceed` is called at least once a second and before the return; what it raises ends the wait. Raises
        `PasswordWithheld`.
        """
        with self._changed:
            ends_at = time.monotonic() + self._most_wait_s
            while not self._is_settled() and (left_s := min(self._next_at, ends_at) - time.monotonic()) > 0:
                proceed()
                self._changed.wait(min(left_s, PULSE_S))
            proceed()
            if account in self._refused:
                raise PasswordWithheld
            if self._is_hopeless():
                raise PasswordWithheld(tuple(self._refused.values()))
            self._under_way += 1
            self._next_at = time.monotonic() + self._proving_s

    def report(self, account: str, name: str, taken: bool | None) -> None:
        """The account, on the host `name`, accepted the password or refused it; `None`: not known."""
        with self._changed:
            self._under_way -= 1
            self._is_right = self._is_right or taken is True
            if taken is False:
                self._refused[account] = name
            self._changed.notify_all()

    def _is_settled(self) -> bool:
        return self._is_right or self._is_hopeless() or not self._under_way

    def _is_hopeless(self) -> bool:
        return not self._is_right and len(self._refused) >= MAX_REFUSALS
