"""The odd hosts: for each refusal and warning that preflight knows, a host that deserves it; and some that are merely
in a bad state. `fleet lab up --with KIND` makes them.
"""

from collections.abc import Mapping

from fleet.errors import Refused
from fleet.lab.kinds import nginx_kinds, system_kinds
from fleet.lab.kinds.kind import Kind

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (*nginx_kinds.KINDS, *system_kinds.KINDS)}


def kind(name: str | None) -> Kind:
    """The kind of this name; `None` is the plain one. Raises `Refused` with the names there are."""
    found = KINDS.get(name or "plain")
    if found is None:
        raise Refused(f"lab: no kind of host is called {name!r}.", f"There are: {', '.join(KINDS)}.")
    return found
