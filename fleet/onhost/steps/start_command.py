"""What to type on a host where nginx is down. fleet never starts an nginx: whoever does decides that it may serve."""

from shlex import quote
from typing import Optional

from fleet.onhost.instance import Instance
from fleet.onhost.nginx.command_line import grouped
from fleet.onhost.observation import Observation
from fleet.onhost.steps.unit_follows import RECENT_S
from fleet.onhost.systemd import guard
from fleet.onhost.systemd.by_hand import no_guard
from fleet.onhost.systemd.service_manager import NoAnswer
from fleet.onhost.systemd.unit import Unit


def start_command(instance: Instance, seen: Observation) -> Optional[str]:
    """The line that starts nginx as it was started before: by its unit, or else by its command line.

    `None` where neither fleet nor the layout knows it.
    """
    name = _unit_name(instance)
    if name is not None:
        try:
            unit: Optional[Unit] = instance.systemd.show(name, RECENT_S)
        except NoAnswer:
            unit = None
        if unit is None or unit.is_there:
            return _unit_line(name, unit)
    words, layout = instance.serving.argv, instance.layout
    if not words and seen.path:
        given = (("-p", layout.prefix) if layout.prefix else ()) + (("-c", layout.config) if layout.config else ())
        words = (seen.path,) + given
    return " ".join(quote(word) for word in grouped(words)) if words else None


def _unit_name(instance: Instance) -> Optional[str]:
    """The unit that started nginx, or that would at a boot; `None` where a person started it by hand."""
    serving, pid_file = instance.serving, instance.layout.pid_file
    if not instance.systemd.runs or serving.unit or serving.argv or not pid_file:
        return serving.unit if instance.systemd.runs else None
    try:
        found = instance.systemd.of_pid_file(pid_file)
    except NoAnswer:
        return None
    return found.name if found is not None and (found.starts_at_boot or found.active != "inactive") else None


def _unit_line(name: str, unit: Optional[Unit]) -> str:
    """A unit that still counts as active (`Type=oneshot`) starts nothing unless it is restarted, which a guard refuses."""
    start = "systemctl start %s" % quote(name)
    if unit is None:
        return start
    if unit.active == "active":
        restart = "systemctl restart %s" % quote(name)
        return "%s && %s" % (no_guard(name), restart) if guard.is_loaded(unit) else restart
    return "systemctl reset-failed %s && %s" % (quote(name), start) if _is_given_up(unit) else start


def _is_given_up(unit: Unit) -> bool:
    """Whether systemd may refuse a start, because it started the unit too often: it says so in Result= only where the unit
    had not failed before.
    """
    return unit.active == "failed" and (unit.hit_start_limit or unit.restarts > 0)
