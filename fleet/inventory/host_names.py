"""Names of hosts and groups in an inventory, with Ansible's ranges: `web-[01:20]`, `[a:c]`, `[01:20:2]`.

A name is shown on terminals, used in paths and passed to ssh. So it may hold only letters, digits, `_`, `.` and `-`, and
not begin with `-`; or it is an IP address.
"""

import ipaddress
import itertools
import re
import string

MOST_HOSTS_OF_A_RANGE = 10_000
ALLOWED_NAME = "letters, digits, '_', '.' and '-' (not first), or an IP address"

_NAME = re.compile(r"\w[\w.-]{0,252}")
_RANGE = re.compile(r"\[([^\[\]]*)\]")
_BRACKETED_ADDRESS = re.compile(r"\[([0-9A-Fa-f:.%\w]+)\](?::([0-9]+))?")


class BadName(ValueError):
    """An invalid name, range or port; the text says why and what is allowed."""


def is_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def checked_name(name: str) -> str:
    """The name, if it is valid. Raises `BadName`."""
    if _NAME.fullmatch(name) or is_address(name):
        return name
    raise BadName(f"{name!r} is not a valid name; allowed: {ALLOWED_NAME}.")


def expand(text: str) -> tuple[tuple[str, ...], int | None]:
    """The host names that a key of `hosts:` stands for, in order, and the port of `name:port`, else `None`.

    Raises `BadName`.
    """
    if is_address(text):
        return (text,), None
    bracketed = _BRACKETED_ADDRESS.fullmatch(text)
    if bracketed and is_address(bracketed.group(1)):
        return (bracketed.group(1),), _port(bracketed.group(2))
    name, port = _without_port(text)
    return tuple(checked_name(host) for host in _expanded(name)), port


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    port = int(text) if len(text) < 6 else 0
    if not 0 < port < 65536:
        raise BadName(f"port {text} is not valid; allowed: 1 to 65535.")
    return port


def _without_port(text: str) -> tuple[str, int | None]:
    outside = _RANGE.sub("", text)
    head, colon, tail = text.rpartition(":")
    if colon and outside.count(":") == 1 and re.fullmatch("[0-9]+", tail):
        return head, _port(tail)
    return text, None


def _expanded(text: str) -> list[str]:
    pieces = _RANGE.split(text)
    choices = [[piece] if n % 2 == 0 else _range(piece) for n, piece in enumerate(pieces)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MOST_HOSTS_OF_A_RANGE:
        raise BadName(f"{text} stands for {count} hosts; allowed: at most {MOST_HOSTS_OF_A_RANGE}.")
    return ["".join(parts) for parts in itertools.product(*choices)]


def _range(text: str) -> list[str]:
    """The values of `first:last` or `first:last:step`, the text between the brackets; `last` is included."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[1]:
        raise _bad_range(text)
    first, last = parts[0] or "0", parts[1]
    step = parts[2] if len(parts) == 3 else "1"
    if not re.fullmatch("[0-9]{1,9}", step) or int(step) == 0:
        raise _bad_range(text)
    if re.fullmatch("[0-9]{1,9}", first) and re.fullmatch("[0-9]{1,9}", last):
        return _numbers(text, first, last, int(step))
    letters = string.ascii_letters
    if len(first) != 1 or len(last) != 1 or first not in letters or last not in letters:
        raise _bad_range(text)
    chosen = letters[letters.index(first) : letters.index(last) + 1 : int(step)]
    if not chosen:
        raise _bad_range(text)
    return list(chosen)


def _numbers(text: str, first: str, last: str, step: int) -> list[str]:
    padded = len(first) > 1 and first.startswith("0")
    if int(first) > int(last) or (padded and len(first) != len(last)):
        raise _bad_range(text)
    numbers = range(int(first), int(last) + 1, step)
    if len(numbers) > MOST_HOSTS_OF_A_RANGE:
        raise BadName(f"[{text}] stands for {len(numbers)} hosts; allowed: at most {MOST_HOSTS_OF_A_RANGE}.")
    return [str(number).zfill(len(first) if padded else 0) for number in numbers]


def _bad_range(text: str) -> BadName:
    return BadName(
        f"[{text}] is not a valid range; allowed: [1:20], [01:20] (the same number of digits), [01:20:2] or [a:f]."
    )
