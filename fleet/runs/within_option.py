"""`--within`: how long a host may wait that retires its old master by itself."""

from fleet.errors import Refused


def check_within(within_s: float) -> float:
    """The time, if it is one. Raises `Refused`."""
    if within_s <= 0.0:
        raise Refused("--within can't be off: a host does not wait for ever.", "Give a time, such as 24h.")
    return within_s
