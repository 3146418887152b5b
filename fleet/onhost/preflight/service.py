"""systemd and the package manager: what they will do to nginx during and after an upgrade.

When the main process of a forking unit ends, systemd reads the pid file again; a unit without the right PIDFile= is
stopped with all its processes (docs/systemd.md).
"""

import os
from typing import List

from fleet.onhost.packages.package_database import PACKAGE_LOCKS, flocked_by
from fleet.onhost.packages.unattended import coming_upgrade, running_upgrade
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Ask, Finding
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.state.known_package import owner_at
from fleet.onhost.system.machine import Machine
from fleet.onhost.system.mounts import NO_EXEC, read_mounts
from fleet.onhost.systemd import by_hand
from fleet.onhost.systemd.effects import is_harmful, settings, when_held, when_stale
from fleet.onhost.systemd.misfit import misfit
from fleet.onhost.systemd.service_manager import NoAnswer, why_mute, why_unwritable
from fleet.onhost.systemd.transient import ends_at_logout
from fleet.onhost.systemd.unit import Unit, session_of, unit_of


def package_lock(machine: Machine) -> List[Finding]:
    """Whether a package manager is running now."""
    for path in PACKAGE_LOCKS:
        pid = machine.locked_by(path)
        if pid is None:
            pid = flocked_by(machine, path)
        if pid is not None:
            holder = machine.process(pid)
            title = holder.title if holder else "not visible here"
            return [finding("package_lock", pid=pid, title=title, path=path)]
    return []


def packaged(subject: Subject) -> List[Finding]:
    """Whether a package owns the binary, and may be upgraded while the host is held. A package on hold is none's business."""
    path = subject.seen.path
    owner = owner_at(subject.machine, subject.instance.kept, path)
    if owner is None or owner.on_hold or subject.request.options.hold_package:
        return []
    package, hold = owner.package, owner.hold
    found = [finding("packaged", path=path, package=package, version=owner.version, hold=hold)]
    unit = running_upgrade(subject.machine, owner)
    if unit is not None:
        found.append(finding("package_run_now", unit=unit, package=package, hold=hold))
    coming = coming_upgrade(subject.machine, owner)
    if coming is not None:
        found.append(finding("package_upgrade_comes", package=package, by=coming.by, change=coming.change, hold=hold))
    return found


def unit(subject: Subject) -> List[Finding]:
    """Whether systemd, where it runs, will follow the new master, and what it would do to nginx while it is held."""
    manager = subject.instance.systemd
    name = unit_of(subject.machine.read("/proc/%d/cgroup" % subject.old.pid) or "")
    if not manager.runs:
        return []
    if name is None:
        return _by_hand(subject)
    try:
        found = manager.show(name)
    except NoAnswer as error:
        return [finding("not_checked", what="the systemd unit %s" % name, why=error)]
    return _misfit(subject, found) or _main_pid(subject, found) + _held(subject, found)


def _by_hand(subject: Subject) -> List[Finding]:
    """Whether a person started nginx from a login, and what becomes of it at the logout, at a boot, and by a start."""
    machine, pid, pid_file = subject.machine, subject.old.pid, subject.seen.pid_file
    scope = session_of(machine.read("/proc/%d/cgroup" % pid) or "")
    if scope is None:
        return []
    try:
        unit = subject.instance.systemd.of_pid_file(pid_file) if pid_file else None
    except NoAnswer as error:
        return [finding("not_checked", what="whether a systemd unit can start nginx", why=error)]
    logout = "It ends when that login ends" if ends_at_logout(machine, pid) else "It outlives that login"
    if unit is None:
        return [finding("started_by_hand", pid=pid, scope=scope, logout=logout)]
    boot = "starts %s" if unit.starts_at_boot else "does not start %s, which is disabled"
    facts = {"pid": pid, "scope": scope, "logout": logout, "unit": unit.name, "boot": boot % unit.name}
    return [finding("started_beside_unit", **facts)]


def _misfit(subject: Subject, unit: Unit) -> List[Finding]:
    """Why the unit can't have an nginx that changes its master."""
    pid = subject.old.pid
    if unit.is_there and not unit.owns_nginx and unit.main_pid != pid:
        return [finding("unit_by_hand", unit=unit.name, pid=pid)]
    found = misfit(subject.machine, unit, subject.seen.pid_file, pid)
    return [finding(found.word, **found.facts)] if found is not None else []


def _main_pid(subject: Subject, unit: Unit) -> List[Finding]:
    """Whether systemd follows the running master, or can be told of it."""
    pid = subject.old.pid
    if unit.has_ended:
        return [finding("unit_ended", unit=unit.name, active=unit.active, pid=pid)]
    if not unit.has_main or unit.main_pid == pid:
        return []
    facts = {"unit": unit.name, "main": "pid %d" % unit.main_pid, "pid": pid}
    facts.update(then=when_stale(unit), cure=by_hand.follow(unit.name, pid))
    why = why_mute(subject.machine)
    return [finding("unit_main_pid_fixed", why=why, **facts) if why else finding("unit_main_pid", **facts)]


def _held(subject: Subject, unit: Unit) -> List[Finding]:
    """What systemd does to a held nginx when others stop, restart or reload it: said once, by the first preflight."""
    if subject.request.ask is not Ask.STAGE:
        return []
    then = when_held(unit)
    if not subject.request.options.guard:
        return [finding("no_guard", unit=unit.name, settings=settings(unit), then=then)]
    why = why_unwritable(subject.machine)
    if why is not None:
        return [finding("guard_impossible", unit=unit.name, why=why, then=then)]
    found = [finding("unit_outdated", unit=unit.name)] if unit.is_outdated else []
    if is_harmful(unit):
        found.append(finding("unit_held", unit=unit.name, settings=settings(unit), then=then))
    return found


def exec_paths(subject: Subject) -> List[Finding]:
    """Whether the binary may be executed by a mount on the file itself, as ExecPaths=FILE makes it (systemd.exec(5)).

    A swap gives the name to another file, which has no such mount: there the folder's own mount counts.
    """
    path = subject.seen.path
    mounts = read_mounts(subject.machine.read("/proc/%d/mountinfo" % subject.old.pid) or "")
    if path is None or not any(one.point == path for one in mounts):
        return []
    folder = os.path.dirname(path)
    above = [one for one in mounts if one.point != path and (folder + "/").startswith(one.point.rstrip("/") + "/")]
    if not above or not above[-1].flags & NO_EXEC:
        return []
    return [finding("exec_paths", path=path, folder=folder, setting="NoExecPaths=, ExecPaths=%s" % path)]
