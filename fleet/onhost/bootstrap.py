"""What runs first in the bundle: psutil is put where Python can load it, or the visit is refused by the protocol.

An extension module can't be loaded from a zip, so the bundle carries psutil's files and this unpacks them once, beside
itself, in a folder of root's that is named by the bundle's hash. Nothing of the host's own Python can stand in for it
unless the bundle has none for this platform, or it can't be loaded here (a noexec file system, another libc).
"""

import os
import shutil
import sys
import tempfile
import zipfile
from typing import Optional

from fleet.onhost.protocol import END_MARK, Outcome, Reply, ReplyType, encode

WHEEL = "psutil-wheel/"
PACKAGE = "psutil"


def unpack(bundle: str) -> Optional[str]:
    """The folder that holds the bundle's psutil, unpacked whole or not at all; `None` if the bundle has none."""
    folder = os.path.dirname(os.path.abspath(bundle))
    if os.path.isdir(os.path.join(folder, PACKAGE)):
        return folder
    with zipfile.ZipFile(bundle) as source:
        names = [name for name in source.namelist() if name.startswith(WHEEL)]
        if not names:
            return None
        temporary = tempfile.mkdtemp(prefix=".psutil.", dir=folder)
        try:
            source.extractall(temporary, names)
            os.rename(os.path.join(temporary, WHEEL, PACKAGE), os.path.join(folder, PACKAGE))
        except OSError:
            # Another visit may have been quicker: a folder with files in it is never renamed over.
            if not os.path.isdir(os.path.join(folder, PACKAGE)):
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def prefer(bundle: str) -> Optional[str]:
    """The bundle's psutil is the one that `import psutil` finds. Returns why it is not, or `None`."""
    try:
        folder = unpack(bundle)
    except (OSError, zipfile.BadZipFile) as error:
        return "it could not be unpacked beside %s: %s" % (bundle, error)
    if folder is None:
        return "fleet's bundle carries none for this platform"
    sys.path.insert(1, folder)
    return None


def forget(bundle: str) -> None:
    """A second `import psutil` looks only among the host's own packages."""
    folder = os.path.dirname(os.path.abspath(bundle))
    sys.path[:] = [entry for entry in sys.path if entry != folder]
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def refuse(why: str) -> int:
    """The exit code of a visit that was refused for want of psutil; the reply is printed."""
    reply = Reply(
        ReplyType.OUTCOME,
        outcome=Outcome.REFUSED,
        reason="psutil_missing",
        message="psutil can't be loaded by %s: %s." % (sys.executable, why),
        remedy="Install the package of the host's Python: python3-psutil (Debian, Ubuntu, RHEL, SUSE), py3-psutil "
        "(Alpine). If the state folder is mounted noexec, choose another one (fleet_state_dir).",
    )
    sys.stdout.write(encode(reply) + "\n" + END_MARK + "\n")
    sys.stdout.flush()
    return 0
