"""`--limit-rate`: how fast all uploads of this process may go together, so that a rollout leaves room on the uplink.

A token bucket without a bucket: each portion gets the moment at which it may go, right after the one before, whoever
sends it. Who waits for his turn is not idle: he says so once a second, to the watch that looks for a dead link.
"""

import time
from collections.abc import Callable
from threading import Lock

PULSE_S = 1.0
PORTION_S = 0.25
MIN_PORTION_BYTES = 1024


class Rate:
    """So many bytes a second, `None` for no limit. Every upload of a run shares one."""

    def __init__(
        self,
        bytes_per_s: float | None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._pause = pause
        self._lock = Lock()
        self._free_at = clock()

    def portion(self, size_bytes: int) -> int:
        """How much of so many bytes should be asked for at once, so that the line is shared smoothly."""
        if self._bytes_per_s is None:
            return size_bytes
        most_bytes = max(MIN_PORTION_BYTES, int(self._bytes_per_s * PORTION_S))
        return most_bytes if size_bytes < 0 else min(size_bytes, most_bytes)

    def take(self, size_bytes: int, waiting: Callable[[], None]) -> None:
        """So many bytes may be sent now. `waiting` is called at least once a second until then; it may raise."""
        if self._bytes_per_s is None:
            return
        with self._lock:
            turn_at = max(self._free_at, self._clock())
            self._free_at = turn_at + size_bytes / self._bytes_per_s
        while (left_s := turn_at - self._clock()) > 0:
            waiting()
            self._pause(min(left_s, PULSE_S))


class _Rates:
    """The one `Rate` of each limit in this process: visits share it, though each is told only the number."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._rates: dict[float | None, Rate] = {}

    def of(self, bytes_per_s: float | None) -> Rate:
        with self._lock:
            return self._rates.setdefault(bytes_per_s, Rate(bytes_per_s))


_ALL = _Rates()


def shared_rate(bytes_per_s: float | None) -> Rate:
    """The rate that all uploads of this process with this limit share."""
    return _ALL.of(bytes_per_s)


UNLIMITED = Rate(None)
