"""The package that owns a file, by the host's package manager: dpkg, rpm or apk.

Their programs are asked, because the files of their databases are not documented; what they are asked costs some tens of
milliseconds, so `state/known_package.py` keeps the answer for as long as the database is unchanged.
"""

import re
from enum import Enum
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

from fleet.onhost.packages.package_database import APK, DPKG, RPM, VERSION_LOCKS
from fleet.onhost.system.host_tools import TOOL_ENV, TOOL_TIMEOUT_S
from fleet.onhost.system.machine import Machine

DPKG_FORMAT = r"${binary:Package}\t${Version}\t${db:Status-Want}\n"
RPM_FORMAT = r"%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{INSTALLTIME}\n[%{FILENAMES}\t%{FILEDIGESTS}\n]"
DIVERSION = re.compile(r"^(?:diversion by (\S+)|local diversion) (from|to): (.*)$")


class Manager(Enum):
    """The package manager, and how its operator holds a package at its version, and releases it."""

    DPKG = "dpkg"
    RPM = "rpm"
    APK = "apk"

    def hold(self, package: str) -> Tuple[str, ...]:
        """The command that holds the package."""
        return {
            Manager.DPKG: ("apt-mark", "hold", package),
            Manager.RPM: ("dnf", "versionlock", "add", package),
            Manager.APK: ("apk", "add", "%s=VERSION" % package),
        }[self]

    def unhold(self, package: str) -> Tuple[str, ...]:
        """The command that releases the package again."""
        return {
            Manager.DPKG: ("apt-mark", "unhold", package),
            Manager.RPM: ("dnf", "versionlock", "delete", package),
            Manager.APK: ("apk", "add", package),
        }[self]


class Owner(NamedTuple):
    """The package that owns a file, as it is installed.

    `digest` is the checksum that it has for the file, in hex: MD5 or SHA-256, by its length; empty where it has none.
    `installed_at_s` is when this version was installed, in seconds since 1970, `None` where the database does not say it.
    """

    manager: Manager
    package: str
    version: str
    digest: str = ""
    on_hold: bool = False
    installed_at_s: Optional[float] = None

    @property
    def hold(self) -> str:
        """The command that holds the package at its version."""
        return " ".join(self.manager.hold(self.package))


def owner_of(machine: Machine, path: str) -> Optional[Owner]:
    """The package that owns the file at the path, according to the host's package manager, or `None`."""
    for files, ask in ((DPKG, _by_dpkg), (RPM, _by_rpm), (APK, _by_apk)):
        owner = ask(machine, path) if any(machine.exists(file) for file in files) else None
        if owner is not None:
            return owner
    return None


def names_of(path: str) -> Tuple[str, ...]:
    """The names under which a package may list a file: with a merged /usr, /sbin/x and /usr/sbin/x are one file."""
    if re.match(r"^/usr/(s?bin|lib)/", path):
        return path, path[len("/usr") :]
    return (path, "/usr" + path) if re.match(r"^/(s?bin|lib)/", path) else (path,)


def _run(machine: Machine, *argv: str) -> Optional[str]:
    ran = machine.run(argv, TOOL_TIMEOUT_S, env=TOOL_ENV)
    return ran.output if ran.code == 0 else None


def _by_dpkg(machine: Machine, path: str) -> Optional[Owner]:
    for name in names_of(path):
        package = _dpkg_package(_run(machine, "dpkg-query", "-S", name) or "", name)
        if package is None:
            continue
        fields = (_run(machine, "dpkg-query", "-W", "-f=" + DPKG_FORMAT, package) or "").rstrip("\n").split("\t")
        if len(fields) != 3:
            return None
        sums = _sums((_run(machine, "dpkg-query", "--control-show", package, "md5sums") or "").splitlines(), "  ")
        digest = next((sums[one[1:]] for one in names_of(path) if one[1:] in sums), "")
        return Owner(Manager.DPKG, fields[0], fields[1], digest, on_hold=fields[2] == "hold")
    return None


def _dpkg_package(output: str, name: str) -> Optional[str]:
    """The package whose file lies at this name, by `dpkg-query -S`; `None` where a person diverted the packages' file."""
    packages: Sequence[str] = ()
    diverted, by = False, None
    for line in output.splitlines():
        matched = DIVERSION.match(line)
        if matched:
            diverted |= matched.group(2) == "from" and matched.group(3) == name
            by = matched.group(1)
        elif line.endswith(": " + name):
            packages = line[: -len(": " + name)].split(", ")
    if diverted:
        packages = [one for one in packages if by is not None and one.partition(":")[0] == by]
    return packages[0].partition(":")[0] if packages else None


def _sums(lines: Sequence[str], between: str) -> Dict[str, str]:
    """The checksums by path, of lines like `CHECKSUM  PATH` (deb-md5sums(5))."""
    return {path: digest for digest, _, path in (line.partition(between) for line in lines)}


def _by_rpm(machine: Machine, path: str) -> Optional[Owner]:
    output = _run(machine, "rpm", "-qf", "--queryformat", RPM_FORMAT, path)
    lines = (output or "").splitlines()
    head = lines[0].split("\t") if lines else []
    if len(head) != 3:
        return None
    digests = dict(line.split("\t", 1) for line in lines[1:] if "\t" in line)
    digest = next((digests[one] for one in names_of(path) if one in digests), "")
    at_s = float(head[2]) if head[2].isdigit() else None
    return Owner(Manager.RPM, head[0], head[1], digest, _rpm_is_locked(machine, head[0]), at_s)


def _rpm_is_locked(machine: Machine, package: str) -> bool:
    """Whether a line of the versionlock plugin's list names the package (`nginx-1:1.20.1-14.el9.*`, `0:nginx-1.20…`)."""
    name = re.escape(package)
    pattern = re.compile(r"^(\d+:)?%s-(\d+:)?\d|^name\s*=\s*[\"']%s[\"']" % (name, name), re.MULTILINE)
    return any(pattern.search(machine.read(path) or "") for path in VERSION_LOCKS)


def _by_apk(machine: Machine, path: str) -> Optional[Owner]:
    output = _run(machine, "apk", "info", "--who-owns", path) or ""
    matched = re.search(r" is owned by (\S+?)-(\d\S*)$", output.strip())
    if not matched:
        return None
    package, version = matched.groups()
    world = (machine.read("/etc/apk/world") or "").split()
    return Owner(Manager.APK, package, version, on_hold=any(one.startswith(package + "=") for one in world))
