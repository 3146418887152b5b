"""Which database is the journal: the operator's own file, another one, or a team's server.

SQLite's write-ahead log needs memory that all readers share, and locks that work. A network's file system promises
neither, so that there the older way is chosen, which is slower and needs only one file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from fleet.errors import JournalError

FILE = "journal.db"
MOUNTS = Path("/proc/self/mountinfo")
ODD = (
    *("nfs", "cifs", "smb", "9p", "fuse", "afs", "ceph", "lustre", "gpfs", "gfs", "ocfs", "coda", "ncp", "beegfs"),
    *("orangefs", "virtiofs", "vboxsf", "vmhgfs", "prl_fs", "autofs"),
)
"""How the names of file systems begin that other machines share, or that a program answers for."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the journal is. `path` is its file, `None` for a server; `shown` names it to people, without a password."""

    url: URL
    path: Path | None
    shown: str


def place_of(text: str | None) -> Place:
    """The place that `--journal` names: a file, a URL, or by default a file in the user's state directory.

    Raises `JournalError`.
    """
    if text is None or not text.strip():
        return _file(platformdirs.user_state_path("fleet") / FILE)
    if "://" not in text:
        return _file(Path(text))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        # Its words are not repeated: a password may stand in them.
        raise JournalError("--journal: this is no database URL.", _ALLOWED) from error
    if url.get_backend_name() != "sqlite":
        return Place(url, None, url.render_as_string(hide_password=True))
    if not url.database or ":memory:" in url.database or url.query:
        shown = url.render_as_string(hide_password=True)
        raise JournalError(f"--journal {shown}: a journal must be a file that lasts.", _ALLOWED)
    return _file(Path(url.database))


_ALLOWED = "Allowed: the path of a file, or a URL such as sqlite:////var/lib/me/journal.db or postgresql+psycopg://team-db/fleet."


def _file(path: Path) -> Place:
    try:
        path = path.expanduser().absolute()
    except RuntimeError as error:
        raise JournalError(f"--journal {path}: there is no such user.", _ALLOWED) from error
    return Place(URL.create("sqlite", database=str(path)), path, str(path))


def make_file(path: Path) -> None:
    """The file is there; one that is new, and a folder that is new, are for its owner alone. Raises `JournalError`."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.is_dir():
            raise JournalError(f"the journal {path} is a folder.", "Name a file in it with --journal.")
        path.touch(mode=0o600)
    except OSError as error:
        raise JournalError(
            f"the journal {path} can't be made: {error.strerror}.", "Name a file that you may write to, with --journal."
        ) from error


def is_odd(path: Path) -> bool:
    """Whether the file lies where shared memory and locks can't be relied on. Unknown (no /proc) is no."""
    try:
        mounts = MOUNTS.read_text(errors="surrogateescape")
    except OSError:
        return False
    kind = file_system(path.resolve(), mounts)
    return kind is not None and kind.startswith(ODD)


def file_system(path: Path, mounts: str) -> str | None:
    """The kind of file system that holds the path, by the lines of `mountinfo`: the longest mount point, the last of equals."""
    found: tuple[int, str] | None = None
    for point, kind in _mounted(mounts):
        if path.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = len(point.parts), kind
    return found[1] if found else None


def _mounted(mounts: str) -> Iterator[tuple[Path, str]]:
    """Each mount point with its kind. Blanks in it are written as `\\040` (proc(5))."""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        words, kinds = before.split(" "), after.split(" ")
        if len(words) >= 5 and kinds[0]:
            yield Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), words[4])), kinds[0]
