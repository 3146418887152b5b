"""Few uploads at once: fifty that share two cores cost twice the CPU of four, and bring no host its release sooner.

A host on a slow line must not hold up the others, so an upload that takes longer than `QUICK_S` gives its turn to the next
one and goes on beside it.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

AT_ONCE = 4
QUICK_S = 2.0
PULSE_S = 0.25


class Turns:
    """The turns of all uploads of this process."""

    def __init__(self, at_once: int = AT_ONCE, quick_s: float = QUICK_S) -> None:
        self._free = threading.Semaphore(at_once)
        self._quick_s = quick_s

    @contextmanager
    def turn(self, proceed: Callable[[], None]) -> Iterator[Callable[[], None]]:
        """Waits for a turn. Gives the function that the upload calls in the place of `proceed`, which is called meanwhile, too;
        what that raises ends the wait."""
        while not self._free.acquire(timeout=PULSE_S):
            proceed()
        ends_at: float | None = time.monotonic() + self._quick_s

        def going_on() -> None:
            nonlocal ends_at
            proceed()
            if ends_at is not None and time.monotonic() >= ends_at:
                ends_at = None
                self._free.release()

        try:
            yield going_on
        finally:
            if ends_at is not None:
                self._free.release()


TURNS = Turns()
