"""`--within`: how long a host may wait that retires its old master by itself."""

import pytest

from fleet.errors import Refused
from fleet.runs.within_option import check_within


def test_a_time_is_taken_as_it_is() -> None:
    assert check_within(90.0) == 90.0


def test_a_host_does_not_wait_for_ever() -> None:
    with pytest.raises(Refused, match="--within can't be off") as refused:
        check_within(0.0)

    assert refused.value.remedy == "Give a time, such as 24h."
