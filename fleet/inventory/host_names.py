"""Names of hosts and groups as an inventory writes them: ranges, ports, and what is no name at all.

A name is shown on terminals, written into paths and given to ssh, so the rule is narrow: letters, digits, `_`, `.`
and `-`, not beginning with `-`; or an IP address. Ranges are Ansible's: `web-[01:20]`, `[a:c]`, `[01:20:2]`.
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
    """Not a name, a range or a port; the text says why and what is allowed."""


def is_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_printable(text: str) -> bool:
    """Whether a terminal shows it as it is: no control characters, no line ends."""
    return text.isprintable()


def checked_name(name: str) -> str:
    """The name itself. Raises `BadName`."""
    if _NAME.fullmatch(name) or is_address(name):
        return name
    raise BadName(f"{name!r} is no name; allowed: {ALLOWED_NAME}")


def expand(text: str) -> tuple[tuple[str, ...], int | None]:
    """The host names that a key of `hosts:` stands for, in order, and the port, if `name:port` gave one.

    Raises `BadName` where a range is none, or a result is no name.
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
        raise BadName(f"port {text} is no port; allowed: 1 to 65535")
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
        raise BadName(f"the range stands for {count} hosts; allowed: at most {MOST_HOSTS_OF_A_RANGE}")
    return ["".join(parts) for parts in itertools.product(*choices)]


def _range(text: str) -> list[str]:
    """What stands between the brackets: `first:last` or `first:last:step`, the last one included."""
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
        raise BadName(f"the range [{text}] stands for {len(numbers)} hosts; allowed: at most {MOST_HOSTS_OF_A_RANGE}")
    return [str(number).zfill(len(first) if padded else 0) for number in numbers]


def _bad_range(text: str) -> BadName:
    return BadName(f"[{text}] is no range; allowed: [1:20], [01:20] (both ends as long), [01:20:2] or [a:f]")
