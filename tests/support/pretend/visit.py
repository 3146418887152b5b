"""The controller's side of one visit, with what goes wrong during it."""

from collections.abc import Callable
from dataclasses import dataclass

from fleet.onhost.protocol import Ask, Reply, ReplyType, Request, Step
from fleet.onhost.steps.context import TurnedBack


class Killed(BaseException):
    """The step script was killed: nothing catches this, nothing more is done, and no answer comes."""


@dataclass(frozen=True, slots=True)
class Mishap:
    """What goes wrong during a visit: the script is killed as it begins the step after so many, or turns back there, and
    why; the new release complains in its log; old connections don't end.
    """

    killed_after: int | None = None
    turns_after: int | None = None
    why: str = "controller_gone"
    answers_badly: bool = False
    drains_on: bool = False


WELL = Mishap()


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that a host takes, and for whom."""

    step: Step
    request: Request


class Controller:
    """The step script's input and output. `watch` is called with each step of the walk when it begins."""

    def __init__(self, request: Request, mishap: Mishap, watch: Callable[[Taken], None] = lambda taken: None) -> None:
        self.request = request
        self.mishap = mishap
        self.watch = watch
        self.steps = 0

    def say(self, reply: Reply) -> None:
        """Raises `Killed`."""
        if reply.type is not ReplyType.STEP_STARTED or self.request.ask is Ask.STAGE or reply.step is None:
            return
        if self.steps == self.mishap.killed_after:
            raise Killed
        self.steps += 1
        self.watch(Taken(reply.step, self.request))

    def go_on(self) -> None:
        """Raises `TurnedBack`."""
        if self.mishap.turns_after is not None and self.steps >= self.mishap.turns_after:
            raise TurnedBack(self.mishap.why, how="a test says so")
