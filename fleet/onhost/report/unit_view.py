"""The systemd unit of nginx, as `status` shows it."""

from typing import Optional

from fleet.onhost.instance import Instance
from fleet.onhost.observation import Observation
from fleet.onhost.steps.unit_follows import RECENT_S, is_of, name_of_unit
from fleet.onhost.systemd import drop_in, guard
from fleet.onhost.systemd.by_hand import drop_in_path
from fleet.onhost.systemd.service_manager import NoAnswer
from fleet.onhost.systemd.unit import Unit
from fleet.onhost.views import UnitView

UNKNOWN = "unknown"


def unit_view(instance: Instance, seen: Observation) -> Optional[UnitView]:
    """The unit that owns nginx, or owned it before nginx went down; `None` where there is none. systemd is asked once."""
    if not instance.systemd.runs:
        return None
    held = guard.guarded(instance.machine, instance.kept.name) if instance.kept else []
    name = name_of_unit(instance, seen.masters) or (None if seen.masters else instance.serving.unit)
    name = name or (held[0] if held else None)
    if name is None:
        return None
    try:
        unit: Optional[Unit] = instance.systemd.show(name, RECENT_S)
    except NoAnswer:
        unit = None
    path = drop_in_path(name) if _is_guarded(instance, name, unit) else None
    if unit is None:
        return UnitView(name, active=UNKNOWN, guard=path)
    masters = [master.pid for master in seen.masters]
    if masters and not is_of(instance, unit, seen) and unit.main_pid not in masters:
        return None
    follows = not masters or (not unit.has_ended and (not unit.has_main or unit.main_pid in masters))
    return UnitView(unit.name, unit.main_pid, unit.active, follows, path)


def _is_guarded(instance: Instance, name: str, unit: Optional[Unit]) -> bool:
    text = drop_in.text_of(instance.machine, name)
    return guard.HELD in text if text is not None else unit is not None and guard.is_loaded(unit)
