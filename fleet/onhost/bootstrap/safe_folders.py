"""Whether root alone can write to the folders of a bundle, and to every folder on the way there.

A user who can write to one of them would be root at the next visit. So nothing stored there may take part in this check:
the text of this file arrives as the first line of stdin, with that of `start` or `receive`, and imports nothing else of
fleet. A file under its final name is complete and has the right hash. A folder that only root can write to now can't be
changed by others later.
"""

import errno
import os
import stat
from typing import Iterator, Optional, Tuple

MOST_LINKS = 40
"""The most symbolic links on one path, as in Linux itself."""
GIVEN_UP_S = 3600.0
"""Seconds without a write after which a partial file is left over from a dead process; a younger one may be in use."""
KEPT = ("releases", "instances")


def first_unsafe(folder: str) -> Optional[str]:
    """The first place on the way to a bundle's folder, or in it, that others than root can write to or replace.

    A place that does not exist yet is safe. Raises OSError.
    """
    state_dir = os.path.dirname(os.path.dirname(folder))
    for root in [folder] + [os.path.join(state_dir, name) for name in KEPT]:
        for path, seen in on_the_way(root):
            # The mode of a link means nothing. In a sticky folder (/tmp) users can't rename the files of others.
            harmless = stat.S_ISLNK(seen.st_mode) or seen.st_mode & stat.S_ISVTX
            if belongs_to_another(seen) or (is_open(path, seen) and not harmless):
                return path
    for path, seen in own_places(folder):
        if belongs_to_another(seen) or is_open(path, seen):
            return path
    return None


def belongs_to_another(seen: os.stat_result) -> bool:
    """Whether the owner is neither root nor (in tests) this user."""
    return seen.st_uid not in (0, os.geteuid())


def is_open(path: str, seen: os.stat_result) -> bool:
    """Whether others than the owner may write to it.

    Root's own group may, unless an access control list exists: then the group bits are the mask of that list.
    """
    if seen.st_mode & stat.S_IWOTH:
        return True
    return bool(seen.st_mode & stat.S_IWGRP) and (seen.st_gid != 0 or has_access_list(path))


def has_access_list(path: str) -> bool:
    """Whether an access control list may exist: a Python built with musl can't tell."""
    for kind in ("system.posix_acl_access", "system.nfs4_acl"):
        try:
            os.getxattr(path, kind)
        except AttributeError:
            return True
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.ENOTSUP):
                continue
        return True
    return False


def on_the_way(path: str) -> Iterator[Tuple[str, os.stat_result]]:
    """Every existing folder and symbolic link that the kernel passes on its way to `path`.

    Raises OSError, also for links that form a loop.
    """
    here, links = "/", 0
    left = path.split("/")[::-1]
    yield here, os.lstat(here)
    while left:
        name = left.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)  # Already passed.
            continue
        there = os.path.join(here, name)
        try:
            seen = os.lstat(there)
        except FileNotFoundError:
            return
        yield there, seen
        if not stat.S_ISLNK(seen.st_mode):
            here = there
            continue
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(there)
        here = "/" if target.startswith("/") else here
        left += target.split("/")[::-1]


def own_places(folder: str) -> Iterator[Tuple[str, os.stat_result]]:
    """The state folder, its bundles, this bundle's folder with all its contents, and fleet's other folders there.

    A link beside the bundle counts as open to all, as its mode says: there should be none.
    """
    bundles = os.path.dirname(folder)
    state_dir = os.path.dirname(bundles)
    kept = [place for name in KEPT for place, _, _ in os.walk(os.path.join(state_dir, name))]
    for path in [state_dir, bundles, folder] + kept:
        try:
            yield path, os.stat(path)
        except FileNotFoundError:
            continue
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(place, name)
            try:
                yield path, os.lstat(path)
            except FileNotFoundError:  # Another visit is unpacking the bundle or compiling its modules.
                continue


def failed(error: OSError, folder: str) -> str:
    """The answer when a system call failed."""
    return "failed %s: %s" % (error.filename or folder, error.strerror or error)
