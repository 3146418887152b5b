"""The engine's clock: the time of day in UTC, the wait for the next item of its inbox, and how long the machine slept.

Time and wait are one object, so a test's clock can move in the wait alone.
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


def slept_s() -> float:
    """How long this machine has slept since it was booted, in seconds.

    On Linux `CLOCK_BOOTTIME` counts sleep and `CLOCK_MONOTONIC` does not (clock_gettime(2)). Other systems lack the first;
    there the wall clock takes its place, so setting the clock looks like sleep.
    """
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()
    return now_s - time.monotonic()
