"""What a visit does about nginx's systemd unit: it guards a host before its first change, and leaves no guard behind.

Nothing here stops a visit. What can't be done is a warning, before anything is begun or at its end.
"""

from typing import List, Optional

from fleet.onhost.observation import Observation
from fleet.onhost.protocol import Record
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.steps.unit_follows import RECENT_S, await_followed, follow, name_of_unit, own_unit
from fleet.onhost.systemd import drop_in, guard
from fleet.onhost.systemd.by_hand import no_guard
from fleet.onhost.systemd.effects import when_held
from fleet.onhost.systemd.service_manager import NoAnswer
from fleet.onhost.systemd.unit import Unit
from fleet.onhost.visit.request import Visit


def guard_unit(visit: Visit, record: Record, seen: Observation) -> None:
    """Guard the unit, before the first change of an upgrade, and have it follow nginx."""
    instance = visit.instance
    if visit.request.options.guard:
        unit: Optional[Unit] = None
        try:
            unit = own_unit(instance, seen, RECENT_S)
            if unit is not None:
                hold = guard.Hold(instance.own.name, record.rollout, record.operator, record.at)
                guard.on(instance.systemd, unit, hold)
        except (NoAnswer, OSError) as error:
            name = unit.name if unit is not None else name_of_unit(instance, seen.masters) or "nginx.service"
            then = (
                when_held(unit) if unit is not None else "a restart would end the old master, and with it the way back"
            )
            _warn(visit, "unguarded", unit=name, why=error, then=then)
    else:
        _unguard(visit, guard.guarded(instance.machine, instance.own.name))
    follow(instance, visit.find, seen, RECENT_S)


def settle_unit(visit: Visit) -> None:
    """The end of a visit: the unit follows nginx, and is guarded only while two masters live."""
    instance = visit.instance
    if not instance.systemd.runs:
        return
    seen = instance.look()
    await_followed(instance, visit.find, seen)
    if len(seen.masters) < 2:
        _unguard(visit, _left(visit, seen))


def _left(visit: Visit, seen: Observation) -> List[str]:
    """The units that fleet must not guard on: those of this instance, and its unit if a killed visit left settings in it."""
    instance = visit.instance
    found = guard.guarded(instance.machine, instance.own.name)
    name = name_of_unit(instance, seen.masters)
    if name is not None and name not in found and _is_litter(visit, name):
        found.append(name)
    return found


def _is_litter(visit: Visit, name: str) -> bool:
    """Whether fleet's drop-in names no held instance, or is in force without its file: a visit was killed just there."""
    instance = visit.instance
    text = drop_in.text_of(instance.machine, name)
    if text is not None:
        return guard.HELD not in text
    try:
        return guard.is_loaded(instance.systemd.show(name, RECENT_S))
    except NoAnswer:
        return False


def _unguard(visit: Visit, units: List[str]) -> None:
    instance = visit.instance
    for name in units:
        try:
            guard.off(instance.systemd, name, instance.own.name)
            instance.note(unguarded=name)
        except (NoAnswer, OSError) as error:
            _warn(visit, "guard_left", unit=name, why=error, cure=no_guard(name))


def _warn(visit: Visit, word: str, **facts: object) -> None:
    found = finding(word, **facts)
    visit.instance.note(warning=word, message=found.message)
    visit.find(found)
