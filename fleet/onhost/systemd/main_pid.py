"""The main process of nginx's unit: fleet tells systemd which master it is, before the one that it names ends.

Otherwise systemd would name a process that is gone. A reload that fails then makes it take nginx for dead and kill the
whole unit, and a stop reaches no master (docs/systemd.md).
"""

from fleet.onhost.systemd import drop_in
from fleet.onhost.systemd.service_manager import ServiceManager
from fleet.onhost.systemd.unit import Unit

HEARS = "# fleet tells systemd which nginx serves; this file is removed at once.\n[Service]\nNotifyAccess=all\n"


def follow(manager: ServiceManager, unit: Unit, pid: int) -> None:
    """Have systemd take this process for the unit's main one, and see that it does. Raises OSError, `NoAnswer`.

    A unit whose guard is not on hears fleet through a drop-in that is there for this moment.
    """
    if unit.main_pid == pid:
        return
    if unit.hears_all:
        manager.set_main(unit.name, pid)
        return
    drop_in.put(manager, unit.name, drop_in.text_of(manager.machine, unit.name) or HEARS)
    try:
        manager.set_main(unit.name, pid)
    finally:
        if drop_in.text_of(manager.machine, unit.name) == HEARS:
            drop_in.remove(manager, unit.name)
