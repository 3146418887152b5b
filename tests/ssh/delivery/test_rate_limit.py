"""All uploads together keep to the limit, by a clock that moves only in pauses."""

import pytest

from fleet.ssh.delivery.rate_limit import PULSE_S, UNLIMITED, Rate, shared_rate


class Clock:
    """Time that passes only in pauses."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_rate_holds_for_all_uploads_together(clock: Clock) -> None:
    rate = Rate(1000, clock, clock.pause)

    for _ in range(10):
        rate.take(250, lambda: None)
        rate.take(250, lambda: None)

    assert clock.now_s == pytest.approx(1000 + (20 - 1) * 0.25)


def test_idle_time_is_not_saved_up(clock: Clock) -> None:
    rate = Rate(1000, clock, clock.pause)
    clock.now_s += 3600

    rate.take(1000, lambda: None)
    rate.take(1000, lambda: None)

    assert clock.pauses == [1.0]


def test_a_waiting_upload_calls_back_every_second(clock: Clock) -> None:
    rate = Rate(10, clock, clock.pause)
    said: list[float] = []
    rate.take(100, lambda: None)

    rate.take(100, lambda: said.append(clock.now_s))

    assert said == [1000 + second * PULSE_S for second in range(10)]


def test_an_exception_while_waiting_ends_the_wait(clock: Clock) -> None:
    rate = Rate(10, clock, clock.pause)
    rate.take(100, lambda: None)

    def cut() -> None:
        raise OSError("cut")

    with pytest.raises(OSError, match="cut"):
        rate.take(100, cut)
    assert clock.pauses == []


def test_a_portion_is_small_enough_to_share_the_line() -> None:
    assert Rate(40_000).portion(1 << 20) == 10_000
    assert Rate(40_000).portion(-1) == 10_000
    assert Rate(40_000).portion(100) == 100
    assert Rate(1).portion(1 << 20) == 1024


def test_without_a_limit_no_upload_waits() -> None:
    assert UNLIMITED.portion(1 << 20) == 1 << 20
    UNLIMITED.take(1 << 40, lambda: pytest.fail("it waits"))


def test_visits_with_the_same_limit_share_it() -> None:
    assert shared_rate(5000.0) is shared_rate(5000.0)
    assert shared_rate(5000.0) is not shared_rate(6000.0)
