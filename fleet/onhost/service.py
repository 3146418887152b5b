"""Who else has a hand in this nginx: systemd, which may end the new master, and the package manager.

systemd follows the pid file when the main process of a forking unit leaves; a unit without the right PIDFile= ends all
that is left of nginx instead (nginx-upgrade.md, 7). What `systemctl show` prints was recorded, not run here.
"""

import os
import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from fleet.onhost.machine import Machine
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons import finding
from fleet.onhost.subject import Subject

RUNS_SYSTEMD = "/run/systemd/system"
PROPERTIES = "Id,Type,PIDFile,MainPID,ActiveState"
ASK_TIMEOUT_S = 20.0
TOOLS = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
PACKAGE_LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
    "/lib/apk/db/lock",
)


class Owner(NamedTuple):
    """The package that a file belongs to, and the command that keeps it as it is."""

    package: str
    hold: str


def package_lock(machine: Machine) -> List[Finding]:
    """Whether a package manager is at work now."""
    for path in PACKAGE_LOCKS:
        pid = machine.locked_by(path)
        if pid is None:
            pid = _flocked_by(machine, path)
        if pid is not None:
            holder = machine.process(pid)
            title = holder.title if holder else "not visible here"
            return [finding("package_lock", pid=pid, title=title, path=path)]
    return []


def _flocked_by(machine: Machine, path: str) -> Optional[int]:
    """Who holds a lock of the other kind (flock), which apk takes; by the inode, as /proc/locks has it."""
    seen = machine.stat(path)
    if seen is None:
        return None
    device = "%02x:%02x" % (os.major(seen.st_dev), os.minor(seen.st_dev))
    for line in (machine.read("/proc/locks") or "").splitlines():
        matched = re.match(r"^\d+: FLOCK\s+\w+\s+WRITE\s+(\d+) ([0-9a-f]+:[0-9a-f]+):(\d+) ", line)
        if matched and matched.group(2) == device and int(matched.group(3)) == seen.st_ino:
            return int(matched.group(1))
    return None


def packaged(subject: Subject) -> List[Finding]:
    """Whether a package owns the binary."""
    path = subject.seen.path
    owner = owner_of(subject.machine, path) if path else None
    return [finding("packaged", path=path, package=owner.package, hold=owner.hold)] if owner else []


def owner_of(machine: Machine, path: str) -> Optional[Owner]:
    """The package that a file belongs to, as the host's package manager says, or `None`."""
    for name in _names_of(path):
        said = machine.run(("dpkg-query", "-S", name), ASK_TIMEOUT_S, env=TOOLS)
        lines = [line for line in said.output.splitlines() if line.endswith(": " + name) and " by " not in line]
        if said.code == 0 and lines:
            package = lines[0].partition(":")[0]
            return Owner(package, "apt-mark hold %s" % package)
    said = machine.run(("rpm", "-qf", "--queryformat", "%{NAME}\\n", path), ASK_TIMEOUT_S, env=TOOLS)
    if said.code == 0 and said.output.strip():
        package = said.output.split()[0]
        return Owner(package, "dnf versionlock add %s" % package)
    said = machine.run(("apk", "info", "--who-owns", path), ASK_TIMEOUT_S, env=TOOLS)
    matched = re.search(r" is owned by (\S+?)-\d\S*$", said.output.strip()) if said.code == 0 else None
    if matched:
        return Owner(matched.group(1), "pin it in /etc/apk/world: apk add '%s=VERSION'" % matched.group(1))
    return None


def _names_of(path: str) -> Tuple[str, ...]:
    """The names that a package may know a file by: with a merged /usr, /sbin/x and /usr/sbin/x are one file."""
    if re.match(r"^/usr/(s?bin|lib)/", path):
        return path, path[len("/usr") :]
    return (path, "/usr" + path) if re.match(r"^/(s?bin|lib)/", path) else (path,)


def unit(subject: Subject) -> List[Finding]:
    """Whether systemd, where it runs, will follow the new master."""
    machine = subject.machine
    name = unit_of(machine.read("/proc/%d/cgroup" % subject.old.pid) or "")
    if name is None or not machine.exists(RUNS_SYSTEMD):
        return []
    said = machine.run(("systemctl", "show", "--property=" + PROPERTIES, name), ASK_TIMEOUT_S, env=TOOLS)
    if said.code != 0:
        return [
            finding("not_checked", what="The systemd unit %s" % name, why=said.output.strip() or "systemctl failed")
        ]
    return _judged(subject, name, read_show(said.output))


class Followed(NamedTuple):
    """The systemd unit that nginx belongs to, and the process that systemd takes for its main one."""

    unit: str
    main_pid: int


def followed(machine: Machine, pid: int) -> Optional[Followed]:
    """Whom systemd follows in the unit of this process; `None` without systemd, a forking unit, or an answer."""
    name = unit_of(machine.read("/proc/%d/cgroup" % pid) or "")
    if name is None or not machine.exists(RUNS_SYSTEMD):
        return None
    said = machine.run(("systemctl", "show", "--property=" + PROPERTIES, name), ASK_TIMEOUT_S, env=TOOLS)
    shown = read_show(said.output)
    main = shown.get("MainPID", "")
    if said.code != 0 or shown.get("Type") != "forking" or not main.isdigit():
        return None
    return Followed(name, int(main))


def unit_of(cgroups: str) -> Optional[str]:
    """The systemd service that /proc/PID/cgroup names, or `None` (a login session is none)."""
    for line in cgroups.splitlines():
        number, names, path = (line.split(":", 2) + ["", ""])[:3]
        if names == "name=systemd" or (number == "0" and not names):
            services = [part for part in path.split("/") if part.endswith(".service")]
            if services:
                return services[-1]
    return None


def read_show(output: str) -> Dict[str, str]:
    """What `systemctl show` printed, by property."""
    return {name: value for name, _, value in (line.partition("=") for line in output.splitlines()) if name}


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
