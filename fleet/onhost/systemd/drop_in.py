"""fleet's drop-in of a unit: settings that hold until fleet removes them, or the host is booted (systemd.unit(5))."""

import os
from typing import List, Optional, Tuple

from fleet.onhost.system.machine import Machine
from fleet.onhost.systemd.by_hand import drop_in_path
from fleet.onhost.systemd.service_manager import NoAnswer, ServiceManager
from fleet.onhost.systemd.unit import RUNS_SYSTEMD


def text_of(machine: Machine, unit: str) -> Optional[str]:
    """What is in the unit's drop-in; `None` where there is none."""
    return machine.read(drop_in_path(unit))


def every(machine: Machine) -> List[Tuple[str, str]]:
    """The units that have a drop-in of fleet's, each with its text."""
    folders = [name[:-2] for name in machine.names(RUNS_SYSTEMD) if name.endswith(".d")]
    found = ((unit, text_of(machine, unit)) for unit in folders)
    return [(unit, text) for unit, text in found if text is not None]


def put(manager: ServiceManager, unit: str, text: str) -> None:
    """Write the drop-in, and have systemd read it. If that fails, it is as before. Raises OSError, `NoAnswer`."""
    before = text_of(manager.machine, unit)
    _write(manager.machine, unit, text)
    _reload_or(manager, unit, before)


def remove(manager: ServiceManager, unit: str) -> None:
    """Remove the drop-in, and have systemd forget it. If that fails, it stays. Raises OSError, `NoAnswer`."""
    before = text_of(manager.machine, unit)
    _write(manager.machine, unit, None)
    _reload_or(manager, unit, before)


def _reload_or(manager: ServiceManager, unit: str, before: Optional[str]) -> None:
    try:
        manager.reload_files()
    except NoAnswer:
        _write(manager.machine, unit, before)
        raise


def _write(machine: Machine, unit: str, text: Optional[str]) -> None:
    path = drop_in_path(unit)
    if text is not None:
        machine.make_public_folder(os.path.dirname(path))
        machine.write(path, text, mode=0o644)
    elif machine.exists(path):
        machine.unlink(path)
        machine.remove_empty_folder(os.path.dirname(path))
