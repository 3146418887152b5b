"""The controller's end of the line: its beats, its turning back, its silence.

A cut link gives no error (200 lines were once printed into one), so the controller must be heard: no step is begun
unless a beat came within the last seconds. The end of stdin means the same at once.
"""

import threading
import time
from typing import Callable, Iterable, Optional

from fleet.onhost.protocol import BEAT, STOP
from fleet.onhost.state.fence import TakenOver, check
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.steps.context import TurnedBack

SILENCE_S = 5.0


class Control:
    """Listens to the controller in a thread of its own; `go_on` is asked before each step and in each long wait."""

    def __init__(self, source: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._heard_s = clock()
        self._over: Optional[str] = None

    def listen(self) -> None:
        """Beats are heard from now on."""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._source:
            word = line.strip()
            if word == BEAT:
                self._heard_s = self._clock()
            elif word == STOP:
                self._over = "interrupted"
        if self._over is None:
            self._over = "controller_gone"

    def go_on(self) -> None:
        """Raises `TurnedBack` when the operator turned back or the controller is gone."""
        silent_s = self._clock() - self._heard_s
        if self._over is None and silent_s > SILENCE_S:
            raise TurnedBack("controller_gone", how="it has sent nothing for %.0f s" % silent_s)
        if self._over == "interrupted":
            raise TurnedBack("interrupted")
        if self._over is not None:
            raise TurnedBack("controller_gone", how="it has closed the connection")


def fenced(own: InstanceStore, rollout: str, epoch: int, go_on: Callable[[], None]) -> Callable[[], None]:
    """`go_on`, which also says when somebody else has been given the host."""

    def ask() -> None:
        go_on()
        try:
            check(own, rollout, epoch)
        except TakenOver as error:
            raise TurnedBack("taken_over", by=error)

    return ask
