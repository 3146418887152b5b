"""Where sudo or doas was found to ask: what this process has learnt, so that it need not fail there at every visit.

Each `sudo -n` that isn't let in is a line in the host's log, and somebody may be woken by those.
"""

from fleet.host import Host

_ASKING: set[str] = set()


def place(host: Host) -> str:
    """The account on a host: two names of the inventory may be the same one."""
    return f"{host.user or ''}@{host.address}:{host.port or ''}"


def remember(host: Host) -> None:
    """This login became root with a password or a terminal."""
    _ASKING.add(place(host))


def is_asking(host: Host) -> bool:
    """Whether it did so before."""
    return place(host) in _ASKING


def forget() -> None:
    """Nothing has been learnt."""
    _ASKING.clear()
