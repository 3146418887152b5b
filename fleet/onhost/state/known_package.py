"""The package that owns nginx's file, and whether the file at the path is its own.

Every look asks for it, so the answer is kept in the instance's folder. It costs no program while the package manager's
database is unchanged, and no reading of the file while that is one that was compared before.
"""

from contextlib import suppress
from typing import NamedTuple, Optional, Tuple

from fleet.onhost.packages.owner import Owner, owner_of
from fleet.onhost.packages.package_database import Stamp, stamps
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.system.machine import Machine
from fleet.onhost.views import PackageView
from fleet.onhost.wire import Malformed

FILE = "package.json"
MOST_COMPARED = 8
MD5_DIGITS = 32


class KnownPackage(NamedTuple):
    """What the database said of the file at `path` when it looked like `stamps`.

    `compared` are files that lay there since, by SHA-256, and whether each is the package's own.
    """

    path: str
    stamps: Tuple[Stamp, ...]
    owner: Optional[Owner] = None
    compared: Tuple[Tuple[str, bool], ...] = ()


def owner_at(machine: Machine, own: Optional[InstanceStore], path: Optional[str]) -> Optional[Owner]:
    """The package that owns the file at the path; `None` where none does."""
    known = _known(machine, own, path) if path is not None else None
    return known.owner if known is not None else None


def package_view(
    machine: Machine, own: Optional[InstanceStore], path: Optional[str], sha256: Optional[str]
) -> Optional[PackageView]:
    """The package of the file at the path, as `status` shows it. `sha256` is of the file that lies there now."""
    known = _known(machine, own, path) if path is not None else None
    if path is None or known is None or known.owner is None:
        return None
    is_its_file = _is_its_file(machine, own, known, path, sha256)
    return PackageView(known.owner.package, known.owner.version, is_its_file, known.owner.on_hold)


def file_words(machine: Machine, own: Optional[InstanceStore], path: Optional[str], sha256: Optional[str]) -> str:
    """The file at the path in words: `the file of package nginx 1.22.1-9+deb12u9`, or its hash and whose it is not."""
    package = package_view(machine, own, path, sha256)
    itself = (sha256 or "no file")[:12]
    if package is None:
        return "%s, a file of no package" % itself
    if package.is_its_file:
        return "the file of package %s %s" % (package.name, package.version)
    return "%s, not the file of package %s %s" % (itself, package.name, package.version)


def _known(machine: Machine, own: Optional[InstanceStore], path: str) -> Optional[KnownPackage]:
    now = stamps(machine)
    if not now:
        return None
    kept: Optional[KnownPackage] = None
    if own is not None:
        with suppress(Malformed):
            kept = own.load(KnownPackage, FILE)
    if kept is not None and (kept.path, kept.stamps) == (path, now):
        return kept
    found = KnownPackage(path, now, owner_of(machine, path))
    _keep(machine, own, found)
    return found


def _is_its_file(
    machine: Machine, own: Optional[InstanceStore], known: KnownPackage, path: str, sha256: Optional[str]
) -> Optional[bool]:
    digest = known.owner.digest if known.owner is not None else ""
    if not digest:
        return None
    if sha256 is None:
        return False
    if len(digest) != MD5_DIGITS:
        return digest == sha256
    compared = dict(known.compared)
    if sha256 not in compared:
        md5 = machine.md5(path)
        if md5 is None:
            return None
        compared[sha256] = md5 == digest
        _keep(machine, own, known._replace(compared=tuple(compared.items())[-MOST_COMPARED:]))
    return compared[sha256]


def _keep(machine: Machine, own: Optional[InstanceStore], known: KnownPackage) -> None:
    """Keep it, where fleet has a folder for this nginx already: a look makes none. Without it the next look asks again."""
    if own is not None and machine.exists(own.folder):
        with suppress(OSError):
            own.save(FILE, known)
