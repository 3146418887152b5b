"""Where this instance keeps its things: what the inventory says, else what fleet knows, else what the master says.

The pid file is the instance's identity. When the inventory does not name it, an instance that fleet has been at before
is known by its folder, whatever its configuration says by now; a new one is read off the configuration files that the
one running master was started with, else off what was compiled in (`-V`).
"""

from typing import List, Optional

from fleet.onhost.nginx.binary import pid_path
from fleet.onhost.nginx.observe import Observer
from fleet.onhost.protocol import Layout
from fleet.onhost.state.store import InstanceStore, instance_name
from fleet.onhost.system.machine import Machine
from fleet.onhost.wire import Malformed


def locate(machine: Machine, layout: Layout) -> Layout:
    """The layout with the pid file filled in, where it can be told, and the binary where fleet has been before.

    A host that is down has no master to tell its binary by; without it neither its orphans nor its path are known.
    """
    found = _placed(machine, layout)
    if found.binary is not None or found.pid_file is None:
        return found
    name = instance_name(machine, found.pid_file)
    known = _layout_of(machine, layout, name)
    return found._replace(binary=known.binary) if known is not None else found


def _placed(machine: Machine, layout: Layout) -> Layout:
    if layout.pid_file is not None:
        return layout
    known = _known(machine, layout)
    living = [one for one in known if _names_a_master(machine, one)]
    masters = Observer(machine, layout).look().masters
    if len(living) == 1:
        return layout._replace(pid_file=living[0].pid_file)
    if masters:
        return layout._replace(pid_file=pid_path(machine, masters[0]))
    return layout._replace(pid_file=known[0].pid_file) if len(known) == 1 else layout


def _known(machine: Machine, layout: Layout) -> List[Layout]:
    """The instances on this host that fleet has been at, of the given binary if one is given."""
    found = []
    for name in machine.names(layout.state_dir + "/instances"):
        one = _layout_of(machine, layout, name)
        if one is not None and (layout.binary is None or machine.real_path(layout.binary) == one.binary):
            found.append(one)
    return found


def _layout_of(machine: Machine, layout: Layout, name: str) -> Optional[Layout]:
    try:
        return InstanceStore(machine, layout.state_dir, name).layout
    except Malformed:
        return None


def _names_a_master(machine: Machine, layout: Layout) -> bool:
    seen = Observer(machine, layout).look()
    return bool({seen.pid_file_pid, seen.oldbin_pid} & {master.pid for master in seen.masters})
