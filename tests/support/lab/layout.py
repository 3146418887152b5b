"""Where a lab host has what belongs to its nginx."""

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import Layout
from fleet.lab.kinds.all_kinds import kind


def layout_of(host: LabHost) -> Layout:
    """The layout of nginx on a host of this kind."""
    return kind(host.kind).layout
