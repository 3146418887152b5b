"""The values of options that are more than text: durations and rates."""

import re
from typing import Any, ClassVar

import rich_click as click

from fleet.errors import FleetError, Refused

LONGEST_S = 30 * 86400.0
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_AMOUNT = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,6}))?(ms|s|m|h|d)")


class Duration(click.ParamType[float]):
    """`30s`, `10m`, `1h30m`, `off`; becomes seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return value if isinstance(value, float) else parse_duration(str(value))
        except FleetError as error:
            self.fail(str(error), param, ctx)


class ByteRate(click.ParamType[float]):
    """`500k`, `2M`, `1.5m`, with curl's suffixes (1k is 1024 bytes); becomes bytes per second."""

    name = "rate"
    _UNITS: ClassVar[dict[str, int]] = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([0-9]+(?:[.][0-9]+)?)([BKMG]?)", str(value).strip().upper())
        rate = float(found[1]) * self._UNITS[found[2]] if found else 0.0
        if rate <= 0:
            self.fail(f"{value!r} is not a rate. Write bytes per second, such as 500k or 2M.", param, ctx)
        return rate


def parse_duration(text: str) -> float:
    """Seconds of `500ms`, `30s`, `10m`, `1h30m`, `2d`; `0` and `off` are 0. Raises `Refused`."""
    word = text.strip().lower()
    if word in ("0", "off"):
        return 0.0
    parts = list(_AMOUNT.finditer(word))
    if not parts or "".join(part[0] for part in parts) != word:
        raise Refused(
            f"{text!r} is not a valid duration.",
            "Allowed: a number with ms, s, m, h or d, such as 30s or 1h30m; 0; off.",
        )
    # In whole billionths, because 0.1 has no exact float.
    seconds = sum(int(part[1] + (part[2] or "").ljust(6, "0")) * _UNIT_MS[part[3]] for part in parts) / 10**9
    if seconds > LONGEST_S:
        raise Refused(f"{text!r} is too long.", "Allowed: at most 30d.")
    return seconds
