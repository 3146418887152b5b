"""What a terminal would show, as text; and rollouts in states that are worth looking at."""

import io
from dataclasses import replace
from functools import cache, partial

from rich.console import Console, RenderableType

from fleet.events import Event, EventType
from fleet.onhost.protocol import Ask
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.upgrade import decide
from tests.support.pretend.visits import AT, LOST_AFTER, UNREACHABLE, WENT_BACK, a_fleet
from tests.support.rollout.playing import Play, a_play, play

QUICK = Policy(bake_s=0.0)
EVIL = "1.26\x1b[2J\x1b]0;owned\x07[red]\r\nmore\u202e"


def an_event(kind: EventType, **values: object) -> Event:
    return replace(Event(AT, "20261123-1000-test", kind), **values)  # type: ignore[arg-type]


class Screen(io.StringIO):
    """A stream that may be a terminal."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


def as_text(what: RenderableType, width: int) -> str:
    """The renderable as plain text of this width."""
    console = Console(file=io.StringIO(), width=width, color_system=None, markup=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(what)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def a_rollout_that_went_wrong() -> Play:
    """One host failed, one fell silent, one is taken back, three never began."""
    fleet = a_fleet(6)
    fleet.outcomes["web-02", Ask.UPGRADE].append(WENT_BACK)
    fleet.outcomes["web-03", Ask.UPGRADE].append(LOST_AFTER)
    for ask in (Ask.LOOK, Ask.ROLLBACK):
        fleet.outcomes["web-03", ask].extend([UNREACHABLE] * 99)
    return play(fleet, QUICK)[1]


@cache
def three_hundred_hosts() -> RolloutStatus:
    """Most of them at fault."""
    fleet = a_fleet(300)
    for number in range(50, 300):
        fleet.outcomes[f"web-{number:02}", Ask.UPGRADE].append(WENT_BACK)
    return play(fleet, replace(QUICK, max_failures=300), sizes=(300,))[1].status


def in_the_middle() -> RolloutStatus:
    """A rollout whose second batch is under way."""
    fleet = a_fleet(6)
    game = a_play(fleet, QUICK)
    seen: list[RolloutStatus] = []

    def watch(status: RolloutStatus, moves: tuple[object, ...]) -> None:
        if status.batch == 2 and status.busy == 2:
            seen.append(status)

    game.watch = watch
    game.to_the_end(partial(decide, QUICK))
    return seen[0]
