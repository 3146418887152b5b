"""Unpacks a bundle that is new to the host beside itself, once, so that later visits start faster.

Python can't load an extension module from a zip, so psutil must be unpacked; and from a zip Python would compile every
module at every visit (100 ms of CPU). The folder belongs to root alone and is named by the bundle's hash. The host's own
psutil is used only when the bundle has none for this platform, or when it can't be loaded here (a noexec file system,
another C library).
"""

import os
import shutil
import sys
import tempfile
import zipfile
from typing import Optional

from fleet.onhost.protocol import END_MARK, Outcome, Reply, ReplyType
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.wire import encode

WHEEL = "psutil-wheel/"


def unpack(bundle: str, folder: str) -> Optional[str]:
    """Unpack the bundle's files into `folder`, all or none. Returns why it failed, or `None`."""
    try:
        temporary = tempfile.mkdtemp(prefix=".lib.", dir=os.path.dirname(folder))
        try:
            with zipfile.ZipFile(bundle) as source:
                source.extractall(temporary)
            _flush(temporary)
            os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except (OSError, zipfile.BadZipFile) as error:
        # Another visit may have been faster: rename never replaces a folder that has files in it.
        return None if os.path.isdir(folder) else "%s could not be unpacked: %s" % (bundle, error)
    return None


def _flush(folder: str) -> None:
    """Flush every file in the folder to disk: after a power cut it must not hold empty files."""
    for place, _, names in os.walk(folder):
        for path in [place] + [os.path.join(place, name) for name in names]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def forget(package: str) -> None:
    """Drop the package from sys.modules, so that the next import reads it again."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


def refuse(why: str) -> int:
    """The exit code of a visit that was refused for want of psutil; the reply is printed."""
    found = finding("psutil_missing", python=sys.executable, why=why)
    reply = Reply(
        ReplyType.OUTCOME,
        outcome=Outcome.REFUSED,
        reason=found.reason,
        message=found.message,
        remedy=found.remedy,
    )
    sys.stdout.write(encode(reply) + "\n" + END_MARK + "\n")
    sys.stdout.flush()
    return 0
