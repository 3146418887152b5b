"""Finds the instance's layout: from the inventory, else from what fleet stored before, else from the running master.

The pid file identifies the instance. If the inventory does not name it, fleet takes the one that it stored at an earlier
visit, whatever the configuration says by now. On a host without such a visit it reads the configuration files that the
running master was started with, else the path that was compiled in (`-V`).
"""

from typing import List, Optional

from fleet.onhost.nginx.master_paths import pid_path
from fleet.onhost.nginx.observe import Observer
from fleet.onhost.protocol import Layout
from fleet.onhost.state.store import InstanceStore, instance_name
from fleet.onhost.system.machine import Machine
from fleet.onhost.wire import Malformed


def locate(machine: Machine, layout: Layout) -> Layout:
    """The layout, with the pid file where it can be found, and with the binary where an earlier visit stored it.

    A host that is down has no master that shows its binary. Without the binary, its orphans and its path stay unknown.
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
    """The layouts that earlier visits stored on this host, of the given binary if one is given."""
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
