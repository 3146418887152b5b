"""A watchdog that closes a connection without progress: paramiko has waits without a deadline.

A cut link gives no error, and the kernel of a frozen peer still acknowledges data. The only way to end every wait of
paramiko (a channel request, a full window, a blocked write) is to close the transport from another thread.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType


class Watchdog:
    """A context manager that calls `close` once, when `progressed` was not called for `idle_s` seconds."""

    def __init__(self, close: Callable[[], None], idle_s: float) -> None:
        self.fired = False
        self._close = close
        self._idle_s = idle_s
        self._moved_at = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._wait, name="fleet-watch", daemon=True)

    def progressed(self) -> None:
        """There was progress: the deadline starts anew."""
        self._moved_at = time.monotonic()

    def __enter__(self) -> "Watchdog":
        self._moved_at = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _wait(self) -> None:
        left_s = self._idle_s
        while not self._done.wait(left_s):
            left_s = self._moved_at + self._idle_s - time.monotonic()
            if left_s <= 0:
                self.fired = True
                self._close()
                return
