"""The step script hears its controller, or stops beginning steps."""

import threading
from collections.abc import Iterator

import pytest

from fleet.onhost.protocol import BEAT, STOP
from fleet.onhost.steps.context import TurnedBack
from fleet.onhost.visit.heartbeat import SILENCE_S, Control
from tests.support.private_nginx import wait_until


class Line:
    """The connection from the controller: its lines are read one after the other."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._news = threading.Condition()
        self.heard = 0

    def say(self, *words: str) -> None:
        with self._news:
            self._said += [word + "\n" for word in words]
            self._news.notify()

    def __iter__(self) -> Iterator[str]:
        while True:
            with self._news:
                self._news.wait_for(lambda: self.heard < len(self._said))
                word = self._said[self.heard]
                self.heard += 1
            if word == "EOF\n":
                return
            yield word


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def line() -> Iterator[Line]:
    found = Line()
    yield found
    found.say("EOF")


def test_a_beat_lets_steps_begin_and_silence_does_not(line: Line) -> None:
    clock = Clock()
    control = Control(line, clock)
    control.listen()
    clock.now_s += SILENCE_S
    control.go_on()

    clock.now_s += 0.1
    with pytest.raises(TurnedBack) as gone:
        control.go_on()
    assert gone.value.finding.reason == "controller_gone"

    line.say(BEAT, "")
    wait_until(lambda: line.heard == 2, "the beat was heard")
    control.go_on()


def test_stop_turns_back_and_is_not_forgotten(line: Line) -> None:
    control = Control(line, Clock())
    control.listen()
    line.say(STOP, BEAT, "")
    wait_until(lambda: line.heard == 3, "both were heard")

    with pytest.raises(TurnedBack) as turned:
        control.go_on()
    assert turned.value.finding.reason == "interrupted"


def test_the_end_of_the_line_is_the_end_of_the_controller(line: Line) -> None:
    control = Control(line, Clock())
    control.listen()
    line.say("EOF")

    def is_over() -> bool:
        try:
            control.go_on()
        except TurnedBack as turned:
            return turned.finding.reason == "controller_gone"
        return False

    wait_until(is_over, "the end was heard")
