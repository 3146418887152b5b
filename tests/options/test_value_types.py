"""The values of options that are more than text."""

import pytest
import rich_click as click

from fleet.errors import Refused
from fleet.options.value_types import ByteRate, Duration, parse_duration


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [("1000", 1000), ("500k", 500 << 10), ("2M", 2 << 20), ("1.5m", 3 << 19), ("1G", 1 << 30), ("800B", 800)],
)
def test_a_rate_has_the_suffixes_of_curl(text: str, bytes_per_s: float) -> None:
    assert ByteRate().convert(text, None, None) == bytes_per_s


@pytest.mark.parametrize("text", ["", "0", "0k", "-5k", "fast", "1 M", "1T", "1e3", "1/s"])
def test_text_that_is_not_a_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="such as 500k or 2M"):
        ByteRate().convert(text, None, None)


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30.0), ("1h30m", 5400.0), ("off", 0.0), (2.5, 2.5)])
def test_a_duration_becomes_seconds(text: object, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


def test_text_that_is_not_a_duration_is_refused_with_an_example() -> None:
    with pytest.raises(click.BadParameter, match="such as 30s"):
        Duration().convert("soon", None, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("off", 0.0),
        ("500ms", 0.5),
        ("30s", 30.0),
        ("1.5s", 1.5),
        ("0.1s", 0.1),
        ("0.000001s", 1e-06),
        ("2.25h", 8100.0),
        ("10m", 600.0),
        ("2h", 7200.0),
        ("1h30m", 5400.0),
        ("2d", 172800.0),
        (" 30S ", 30.0),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1 m", "10min", "1s2", "forever", "31d", "1e3s", "nan"])
def test_an_invalid_duration_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(Refused, match="Allowed: "):
        parse_duration(text)
