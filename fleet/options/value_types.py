"""The values of options that are more than text: durations and rates."""

import re
from typing import Any, ClassVar

import rich_click as click

from fleet.errors import FleetError


class Duration(click.ParamType[float]):
    """`30s`, `10m`, `1h30m`, `off`; becomes seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from fleet.plan import parse_duration

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
