"""`--limit-rate`: the rate of all uploads of this process together, so that a rollout leaves room on the uplink.

Each portion gets the moment at which it may be sent, right after the portion before it, whichever upload that was. Time
in which nothing was sent is not saved up. A waiting upload calls `waiting` once a second, which keeps its watchdog from
firing.
"""

import time
from collections.abc import Callable
from threading import Lock

PULSE_S = 1.0
PORTION_S = 0.25
MIN_PORTION_BYTES = 1024


class Rate:
    """A limit in bytes per second, `None` for none. All uploads of a run share one."""

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
        """How many of `size_bytes` to send at once (a quarter of a second's worth), so that uploads share the line evenly."""
        if self._bytes_per_s is None:
            return size_bytes
        most_bytes = max(MIN_PORTION_BYTES, int(self._bytes_per_s * PORTION_S))
        return most_bytes if size_bytes < 0 else min(size_bytes, most_bytes)

    def take(self, size_bytes: int, waiting: Callable[[], None]) -> None:
        """Waits until `size_bytes` may be sent. `waiting` is called at least once a second meanwhile; it may raise."""
        if self._bytes_per_s is None:
            return
        with self._lock:
            turn_at = max(self._free_at, self._clock())
            self._free_at = turn_at + size_bytes / self._bytes_per_s
        while (left_s := turn_at - self._clock()) > 0:
            waiting()
            self._pause(min(left_s, PULSE_S))


class _Rates:
    """One `Rate` for each limit in this process: a visit knows only the number, and all visits share the `Rate`."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._rates: dict[float | None, Rate] = {}

    def of(self, bytes_per_s: float | None) -> Rate:
        with self._lock:
            return self._rates.setdefault(bytes_per_s, Rate(bytes_per_s))


_ALL = _Rates()


def shared_rate(bytes_per_s: float | None) -> Rate:
    """The rate that all uploads with this limit share in this process."""
    return _ALL.of(bytes_per_s)


UNLIMITED = Rate(None)
