"""All kinds by name, as `fleet lab up --with KIND` takes them. `fleet/lab/kinds/__init__.py` says how to add one."""

from collections.abc import Mapping

from fleet.errors import Refused
from fleet.lab.kinds import nginx_kinds, system_kinds, systemd_kinds
from fleet.lab.kinds.kind import Kind

KINDS: Mapping[str, Kind] = {
    kind.name: kind for kind in (*nginx_kinds.KINDS, *system_kinds.KINDS, *systemd_kinds.KINDS)
}


def kind(name: str | None) -> Kind:
    """The kind of this name; `None` is the plain one. Raises `Refused`, which lists the names."""
    found = KINDS.get(name or "plain")
    if found is None:
        raise Refused(f"There is no kind of host {name!r}.", f"Choose one of: {', '.join(KINDS)}.")
    return found
