"""systemd and the package manager: what they will do to nginx during and after an upgrade.

When the main process of a forking unit ends, systemd reads the pid file again; a unit without the right PIDFile= is
stopped with all its processes (docs/nginx-facts.md, section 10). The tests use recorded output of `systemctl show`.
"""

from typing import Dict, List

from fleet.onhost.packages.package_database import PACKAGE_LOCKS, flocked_by
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.state.known_package import owner_at
from fleet.onhost.system.host_tools import TOOL_ENV, TOOL_TIMEOUT_S
from fleet.onhost.system.machine import Machine
from fleet.onhost.systemd.unit import PROPERTIES, RUNS_SYSTEMD, read_show, unit_of


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
    """Whether a package owns the binary."""
    path = subject.seen.path
    owner = owner_at(subject.machine, subject.instance.kept, path)
    if owner is None or owner.on_hold:
        return []
    return [finding("packaged", path=path, package=owner.package, version=owner.version, hold=owner.hold)]


def unit(subject: Subject) -> List[Finding]:
    """Whether systemd, where it runs, will follow the new master."""
    machine = subject.machine
    name = unit_of(machine.read("/proc/%d/cgroup" % subject.old.pid) or "")
    if name is None or not machine.exists(RUNS_SYSTEMD):
        return []
    ran = machine.run(("systemctl", "show", "--property=" + PROPERTIES, name), TOOL_TIMEOUT_S, env=TOOL_ENV)
    if ran.code != 0:
        return [finding("not_checked", what="the systemd unit %s" % name, why=ran.output.strip() or "systemctl failed")]
    return _judged(subject, name, read_show(ran.output))


def _judged(subject: Subject, name: str, shown: Dict[str, str]) -> List[Finding]:
    machine, pid, pid_file = subject.machine, subject.old.pid, subject.seen.pid_file or ""
    main, kind, theirs = shown.get("MainPID", "0"), shown.get("Type", ""), shown.get("PIDFile", "")
    if kind != "forking":
        if main != str(pid):
            return [finding("unit_main_pid", unit=name, main="pid " + main, pid=pid)]
        return [finding("unit_type", pid=pid, unit=name, type=kind or "unknown", pid_file=pid_file)]
    if not theirs or machine.real_path(theirs) != machine.real_path(pid_file):
        has = "PIDFile=%s" % theirs if theirs else "no PIDFile="
        return [finding("unit_pid_file", unit=name, has=has, pid_file=pid_file)]
    if main != str(pid):
        return [finding("unit_main_pid", unit=name, main="pid " + main, pid=pid)]
    return []
