"""Clocks that a test moves, so that a deadline passes, or does not pass, however busy the machine is."""

from collections.abc import Callable
from types import TracebackType

from fleet.ssh.transport.watchdog import Watchdog


class HandClock:
    """Stands still until the test moves it. It replaces the `time` module of a module that reads only `monotonic`."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class RunningClock(HandClock):
    """Stands still until `has_begun`; from then on each reading is `step_s` later than the one before it."""

    def __init__(self, has_begun: Callable[[], bool], step_s: float) -> None:
        super().__init__()
        self._has_begun = has_begun
        self._step_s = step_s

    def monotonic(self) -> float:
        if self._has_begun():
            self.now_s += self._step_s
        return self.now_s


class HandWatchdogs:
    """The watchdogs of one link, all on one hand-moved clock. `progress` counts the calls of `progressed`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.progress = 0
        self._running: list[_HandWatchdog] = []

    def make(self, close: Callable[[], None], idle_s: float) -> Watchdog:
        return _HandWatchdog(self, close, idle_s)

    def move(self, seconds: float) -> None:
        """The time passes; each watchdog without progress since its deadline closes the link."""
        self.now_s += seconds
        for watchdog in tuple(self._running):
            watchdog.look()

    def add(self, watchdog: "_HandWatchdog") -> None:
        self._running.append(watchdog)

    def remove(self, watchdog: "_HandWatchdog") -> None:
        self._running.remove(watchdog)


class _HandWatchdog(Watchdog):
    def __init__(self, all_: HandWatchdogs, close: Callable[[], None], idle_s: float) -> None:
        super().__init__(close, idle_s)
        self._all = all_
        self._progressed_s = all_.now_s

    def progressed(self) -> None:
        self._progressed_s = self._all.now_s
        self._all.progress += 1

    def look(self) -> None:
        if not self.fired and self._all.now_s - self._progressed_s >= self._idle_s:
            self.fired = True
            self._close()

    def __enter__(self) -> "_HandWatchdog":
        self._progressed_s = self._all.now_s
        self._all.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._all.remove(self)
