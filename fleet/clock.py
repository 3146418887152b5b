"""The engine's clock: the time of day in UTC, and the wait for the next item of its inbox.

Both are one object, so a test's clock can move in the wait alone.
"""

import time
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Clock(Protocol):
    """Gives the time when called."""

    def __call__(self) -> datetime: ...

    def wait(self, inbox: SimpleQueue[Item], wait_s: float, busy: int) -> Item:
        """The next item, awaited for at most `wait_s` seconds while `busy` visits run. Raises `queue.Empty`."""


class SteadyClock:
    """Never steps back, even if the system clock is set."""

    def __init__(self) -> None:
        self._began, self._began_s = datetime.now(UTC), time.monotonic()

    def __call__(self) -> datetime:
        return self._began + timedelta(seconds=time.monotonic() - self._began_s)

    def wait(self, inbox: SimpleQueue[Item], wait_s: float, busy: int) -> Item:
        return inbox.get(timeout=wait_s)
