"""The layer of the hosts on which packages can be installed, and the packages that they get.

A host runs this machine's programs, so this machine's database of packages is true there: the layer is a copy of it, with
the configuration files of nginx's packages. What a host gets beyond that is downloaded once, by this machine's own apt,
into a cache that stays, and is installed on the host alone.
"""

import fcntl
import hashlib
import re
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from fleet.errors import FleetError, Refused
from fleet.lab.folder import LabPaths
from fleet.lab.hosts import disk
from fleet.lab.processes import run

REQUIRED = (
    "dpkg:dpkg",
    "apt-get:apt",
    "/var/lib/dpkg/info/nginx-common.list:nginx",
    "pidof:sysvinit-utils",
    "ss:iproute2",
)
LAYER = "dpkg"
DATABASE = Path("/var/lib/dpkg")
CACHE = Path("/var/cache/fleet-lab")
"""Where downloaded packages stay, so that only the first lab needs the network."""
ARCHIVES = "/var/cache/apt/archives"
INSTALL = f"DEBIAN_FRONTEND=noninteractive dpkg --install {ARCHIVES}/*.deb"
"""Shell that installs on a host what `put` has put there."""
NOT_COPIED = ("lock", "lock-frontend", "*-old", "available", "statoverride")
"""Locks, backups, and overrides for users that the hosts don't have."""
APT = ("etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d")
URI = re.compile(r"^'[^']+' (\S+\.deb) \d+ ", re.MULTILINE)


def make_layer(paths: LabPaths) -> None:
    """Make the layer that all such hosts of the lab share."""
    base = paths.layer(LAYER)
    shutil.copytree(DATABASE, base / DATABASE.relative_to("/"), ignore=shutil.ignore_patterns(*NOT_COPIED))
    # Others would build indexes again, of fonts and of manual pages: minutes for each host.
    triggers = base / "var/lib/dpkg/triggers/File"
    kept = [line for line in triggers.read_text().splitlines(keepends=True) if " nginx" in line]
    triggers.write_text("".join(kept))
    for name in ("var/lib/apt/lists/partial", f"{ARCHIVES[1:]}/partial", "var/cache/debconf", *APT):
        (base / name).mkdir(parents=True)
    disk.write(base, "/etc/apt/sources.list", "")
    for folder in ("etc/dpkg", "etc/ld.so.conf.d"):
        if Path("/", folder).is_dir():
            shutil.copytree(Path("/", folder), base / folder, symlinks=True)
    for path in ("/etc/debconf.conf", *unchanged_files()):
        _copy(base, path)
    # A machine's own "start nothing" (of a container's image, or while ./dev installs) is none of the hosts'.
    disk.hide(base, "/usr/sbin/policy-rc.d")
    for folder in ("conf.d", "modules-available", "modules-enabled", "sites-enabled"):
        (base / "etc/nginx" / folder).mkdir(parents=True, exist_ok=True)


def unchanged_files() -> tuple[str, ...]:
    """The configuration files of nginx's packages that are here as the package has them: no setting of this machine."""
    shown = run(["dpkg-query", "--show", "--showformat", "${Conffiles}\n", "nginx*"])
    pairs = [line.split()[:2] for line in shown.splitlines() if line.strip()]
    return tuple(path for path, md5 in pairs if _md5(Path(path)) == md5)


@cache
def fetch(names: tuple[str, ...]) -> tuple[Path, ...]:
    """The files of these packages and of what they need beyond this machine's own, downloaded if they are not here yet.

    Raises `Refused` when apt knows no such package or can't download it.
    """
    if not names:
        return ()
    archives = CACHE / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    install = ["apt-get", "install", "--yes", "--no-install-recommends", "--reinstall", *names]
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            files = URI.findall(run([*install, "--print-uris", "-o", f"Dir::Cache::archives={CACHE}/none"]))
            if not all((archives / name).exists() for name in files):
                run([*install, "--download-only", "-o", f"Dir::Cache::archives={archives}"], timeout_s=300)
        except FleetError as error:
            raise Refused(
                f"The lab can't get the packages {', '.join(names)} for its hosts: {error}", "Run apt-get update."
            ) from error
    return tuple(archives / name for name in files)


def put(root: Path, packages: Sequence[Path]) -> None:
    """Put the files of packages on the host whose disk has its upper folder at `root`."""
    for package in packages:
        target = root / ARCHIVES[1:] / package.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package, target)


def _copy(base: Path, path: str) -> None:
    source, target = Path(path), base / path.lstrip("/")
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        shutil.copymode(source, target)


def _md5(path: Path) -> str:
    try:
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    except OSError:
        return ""
