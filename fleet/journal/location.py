"""The database that holds the journal: the operator's own file, another file, or a database server of a team.

SQLite's write-ahead log needs shared memory between all its users (sqlite.org/wal.html), which a network file system does
not provide. There the journal uses SQLite's rollback journal instead, which is slower.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from fleet.errors import JournalError

FILE = "journal.db"
MOUNTS = Path("/proc/self/mountinfo")
SHARED_FILE_SYSTEMS = (
    *("nfs", "cifs", "smb", "9p", "fuse", "afs", "ceph", "lustre", "gpfs", "gfs", "ocfs", "coda", "ncp", "beegfs"),
    *("orangefs", "virtiofs", "vboxsf", "vmhgfs", "prl_fs", "autofs"),
)
"""Prefixes of the types of file systems that other machines share (nfs4, smb3) or that a program implements (fuse)."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where the journal is: `path` is its file; else `url` names a server. `display_name` has no password in it."""

    path: Path | None
    display_name: str
    url: str = field(default="", repr=False)


def journal_location(text: str | None) -> Location:
    """The location that `--journal` names: a path or a database URL; by default a file in the user's state directory.

    Raises `JournalError`.
    """
    if text is None or not text.strip():
        return _file(platformdirs.user_state_path("fleet") / FILE)
    if "://" not in text:
        return _file(Path(text))
    from fleet.journal.server_connection import parsed

    try:
        backend, shown, whole, database, has_options = parsed(text)
    except ValueError as error:
        # The text is not repeated in the message: it may hold a password.
        raise JournalError("--journal: not a valid database URL.", _ALLOWED) from error
    if backend != "sqlite":
        return Location(None, shown, whole)
    if not database or ":memory:" in database or has_options:
        raise JournalError(f"--journal {shown}: the journal must be a file on disk, without URL options.", _ALLOWED)
    return _file(Path(database))


_ALLOWED = "Allowed: the path of a file, or a URL such as sqlite:////var/lib/me/journal.db or postgresql+psycopg://team-db/fleet."


def _file(path: Path) -> Location:
    try:
        path = path.expanduser().absolute()
    except RuntimeError as error:
        raise JournalError(f"--journal {path}: no such user.", _ALLOWED) from error
    return Location(path, str(path))


def create_file(path: Path) -> None:
    """Creates the file and its folder where they are missing, for their owner alone. Raises `JournalError`."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.is_dir():
            raise JournalError(f"The journal {path} is a directory.", f"Name a file: --journal {path}/{FILE}.")
        path.touch(mode=0o600)
    except OSError as error:
        raise JournalError(
            f"The journal {path} can't be created: {error.strerror}.",
            "Name a file that you can write to: --journal FILE.",
        ) from error


def is_on_shared_file_system(path: Path, mountinfo: Path = MOUNTS) -> bool:
    """Whether the file is on a shared file system. False where that is not known (no /proc)."""
    try:
        mounts = mountinfo.read_text(errors="surrogateescape")
    except OSError:
        return False
    kind = file_system_type(path.resolve(), mounts)
    return kind is not None and kind.startswith(SHARED_FILE_SYSTEMS)


def file_system_type(path: Path, mounts: str) -> str | None:
    """The type of the file system that holds the path, from the lines of mountinfo; `None` if no mount point fits.

    The longest mount point counts; of equal ones the last, which covers the others.
    """
    found: tuple[int, str] | None = None
    for point, kind in _mounted(mounts):
        if path.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = len(point.parts), kind
    return found[1] if found else None


def _mounted(mounts: str) -> Iterator[tuple[Path, str]]:
    """Each mount point with the type of its file system. mountinfo writes a space as `\\040` (proc(5))."""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        words, kinds = before.split(" "), after.split(" ")
        if len(words) >= 5 and kinds[0]:
            yield Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), words[4])), kinds[0]
