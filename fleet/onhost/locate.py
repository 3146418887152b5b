"""Where this instance keeps its things: what the inventory says, else what the one running master says.

The pid file is the instance's identity. When the inventory does not name it, it is read from the configuration files
that the master was started with, else from what was compiled in (`-V`).
"""

from fleet.onhost.binary import pid_path
from fleet.onhost.machine import Machine
from fleet.onhost.observe import Observer
from fleet.onhost.protocol import Layout


def locate(machine: Machine, layout: Layout) -> Layout:
    """The layout with the pid file filled in, where it can be told."""
    if layout.pid_file is not None:
        return layout
    masters = Observer(machine, layout).look().masters
    if not masters:
        return layout
    return layout._replace(pid_file=pid_path(machine, masters[0]))
