"""The unit follows the serving master: the steps and the visit have systemd told of it, and say what follows if it can't be.

While two masters live, the old one is the main process: when it ends, systemd sees that and reads the pid file, as nginx's
units expect; the new master is no child of systemd, so its end would go unseen (docs/systemd.md). So a rollback needs
nothing, and after a commit systemd has followed by itself.
"""

from typing import Callable, Iterable, Optional

from fleet.onhost.instance import Instance
from fleet.onhost.observation import Master, Observation
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.systemd import by_hand, main_pid
from fleet.onhost.systemd.effects import when_stale
from fleet.onhost.systemd.misfit import Misfit, misfit
from fleet.onhost.systemd.service_manager import POLL_S, NoAnswer
from fleet.onhost.systemd.unit import Unit, unit_of

RECENT_S = 0.5
VISIT_S = 3600.0
"""Longer than a visit: which unit owns nginx does not change in it."""
FOLLOWED_S = 2.0
"""Seconds that systemd has to follow by itself after the end of its main process. It takes some milliseconds."""

Say = Callable[[Finding], None]


def name_of_unit(instance: Instance, masters: Iterable[Master]) -> Optional[str]:
    """The service whose control group the first of these masters is in; `None` without systemd, or outside of a service."""
    machine = instance.machine
    if not instance.systemd.runs:
        return None
    found = (unit_of(machine.read("/proc/%d/cgroup" % master.pid) or "") for master in masters)
    return next((name for name in found if name is not None), None)


def own_unit(instance: Instance, seen: Observation, age_s: float = 0.0) -> Optional[Unit]:
    """The unit that owns this nginx, as it was at most `age_s` ago; `None` where there is none, only one in whose control
    group nginx is. Raises `NoAnswer`.
    """
    name = name_of_unit(instance, seen.masters)
    unit = instance.systemd.show(name, age_s) if name is not None else None
    return unit if unit is not None and is_of(instance, unit, seen) else None


def unit_that_started(instance: Instance, seen: Observation) -> Optional[str]:
    """The unit that owns this nginx, or owned it at an earlier visit where systemd does not answer now."""
    try:
        unit = own_unit(instance, seen, VISIT_S)
    except NoAnswer:
        return instance.serving.unit
    return unit.name if unit is not None else None


def is_of(instance: Instance, unit: Unit, seen: Observation) -> bool:
    """Whether the unit owns this nginx: it follows the same pid file, or it started nginx and follows nothing (oneshot).

    A unit that was masked since, or whose file is gone, has no settings any more: it owns the nginx that it follows, or that
    has outlived it.
    """
    if not unit.is_there:
        return unit.has_ended or unit.main_pid in [master.pid for master in seen.masters]
    if not unit.has_main or not unit.pid_file or not seen.pid_file:
        return unit.owns_nginx and not unit.has_main
    return instance.machine.real_path(unit.pid_file) == instance.machine.real_path(seen.pid_file)


def follow(instance: Instance, say: Say, seen: Observation, age_s: float = 0.0) -> None:
    """Have the unit follow the old master of two, or the only one. It never fails: what can't be done is a warning."""
    if not seen.masters:
        return
    master = seen.masters[0]
    unit: Optional[Unit] = None
    try:
        unit = own_unit(instance, seen, age_s)
        if unit is not None and unit.has_ended:
            _say_once(instance, say, finding("unit_ended", unit=unit.name, active=unit.active, pid=master.pid))
            return
        if unit is None or not unit.has_main or unit.main_pid == master.pid:
            return
        main_pid.follow(instance.systemd, unit, master.pid)
        _say_corrected(instance, say, unit, seen)
    except (NoAnswer, OSError) as error:
        _say_stale(instance, say, unit, seen, error)


def await_followed(instance: Instance, say: Say, seen: Observation) -> None:
    """As `follow`, after the end of the old master: systemd first has its time to follow by itself."""
    machine = instance.machine
    until = machine.monotonic_s() + FOLLOWED_S
    try:
        while machine.monotonic_s() < until and seen.masters:
            unit = own_unit(instance, seen)
            if unit is None or not unit.has_main or unit.main_pid == seen.masters[0].pid:
                return
            if unit.has_ended:
                break
            machine.pause(POLL_S)
    except NoAnswer:
        pass  # `follow` says so.
    follow(instance, say, seen, RECENT_S)


def ends_with_old(instance: Instance, seen: Observation) -> Optional[Misfit]:
    """Why systemd would end all of nginx when the old master exits, or `None`.

    It would where that is its main process and it knows no pid file to read the next one from: somebody has masked or edited
    the unit while nginx was held. A systemd that does not answer stands in no one's way.
    """
    name, old = name_of_unit(instance, seen.masters), seen.masters[0].pid
    try:
        unit = instance.systemd.show(name) if name is not None else None
    except NoAnswer:
        return None
    return misfit(instance.machine, unit, seen.pid_file, old) if unit is not None and unit.main_pid == old else None


def _say_corrected(instance: Instance, say: Say, unit: Unit, seen: Observation) -> None:
    pid = seen.masters[0].pid
    instance.note(unit=unit.name, main_pid=pid, was=unit.main_pid)
    if not any(master.pid == unit.main_pid for master in seen.masters):
        say(finding("unit_corrected", unit=unit.name, main=unit.main_pid, pid=pid))


def _say_stale(instance: Instance, say: Say, unit: Optional[Unit], seen: Observation, error: Exception) -> None:
    pid = seen.masters[0].pid
    if unit is None:
        name = name_of_unit(instance, seen.masters) or "nginx.service"
        found = finding("unit_unseen", unit=name, why=error, pid=pid, cure=by_hand.follow(name, pid))
    else:
        found = finding(
            "unit_main_pid_stale",
            unit=unit.name,
            main=unit.main_pid,
            pid=pid,
            why=error,
            then=when_stale(unit),
            cure=by_hand.follow(unit.name, pid),
        )
    _say_once(instance, say, found)


def _say_once(instance: Instance, say: Say, found: Finding) -> None:
    if instance.systemd.first_time(found.message):
        instance.note(warning=found.reason, message=found.message)
        say(found)
