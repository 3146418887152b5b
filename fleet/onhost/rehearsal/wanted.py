"""What the private copy must be like: known before, or learnt from a try that the copy itself made fail."""

from typing import NamedTuple, Tuple

MOST_BYTES = 256 << 20


class Wanted(NamedTuple):
    """`empty` are files that get no content (logs), `writable` folders of mounts that take no overlay.

    `foreign_sockets` are the paths of other programs' UNIX sockets, `own_sockets` those of the running master. `hosts` are
    names and their addresses for /etc/hosts. `relay`: names are asked of the host's own servers. `most_bytes` may be
    written in all.
    """

    empty: Tuple[str, ...] = ()
    writable: Tuple[str, ...] = ()
    foreign_sockets: Tuple[str, ...] = ()
    own_sockets: Tuple[str, ...] = ()
    hosts: Tuple[Tuple[str, str], ...] = ()
    relay: bool = True
    most_bytes: int = MOST_BYTES
