"""Whether the controller is still there: its beats, its `stop`, its silence.

A cut connection gives no error (200 lines were once printed into one). So a step begins only if a beat came within the
last `SILENCE_S` seconds. The end of stdin means at once that the controller is gone.
"""

import threading
import time
from typing import Callable, Iterable, Optional

from fleet.onhost.protocol import BEAT, OVER, STOP
from fleet.onhost.state.fence import TakenOver, check
from fleet.onhost.state.store import InstanceStore

SILENCE_S = 5.0


class Control:
    """Reads the controller's beats in a thread. `go_on` is called before each step and in each long wait.

    The thread reads until `OVER`, and not a line more: what follows is the next request.
    """

    def __init__(self, source: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._heard_s = clock()
        self._over: Optional[str] = None
        self._thread = threading.Thread(target=self._read, daemon=True)

    def listen(self) -> None:
        """Start to read beats."""
        self._thread.start()

    def is_over(self, wait_s: float) -> bool:
        """Whether the controller has said within `wait_s` seconds that this request is over, or is gone."""
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _read(self) -> None:
        for line in self._source:
            word = line.strip()
            if word == BEAT:
                self._heard_s = self._clock()
            elif word == STOP:
                self._over = "interrupted"
            elif word == OVER:
                break
        if self._over is None:
            self._over = "controller_gone"

    def go_on(self) -> None:
        """Raises `TurnedBack` when the operator turned back or the controller is gone."""
        silent_s = self._clock() - self._heard_s
        if self._over is None and silent_s > SILENCE_S:
            raise turned_back("controller_gone", how="it has sent nothing for %.0f s" % silent_s)
        if self._over == "interrupted":
            raise turned_back("interrupted")
        if self._over is not None:
            raise turned_back("controller_gone", how="it has closed the connection")


def turned_back(word: str, **facts: object) -> Exception:
    """The `TurnedBack` of the steps. It is loaded with the first step: a look takes none."""
    from fleet.onhost.steps.context import TurnedBack

    return TurnedBack(word, **facts)


def fenced(own: InstanceStore, rollout: str, epoch: int, go_on: Callable[[], None]) -> Callable[[], None]:
    """`go_on`, which also raises `TurnedBack` when another rollout has taken the host over."""

    def ask() -> None:
        go_on()
        try:
            check(own, rollout, epoch)
        except TakenOver as error:
            raise turned_back("taken_over", by=error)

    return ask
