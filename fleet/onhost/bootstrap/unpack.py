"""Unpacks a bundle that is new to the host beside itself, once, so that later visits start faster.

Python can't load an extension module from a zip, so psutil must be unpacked; and from a zip Python would compile every
module at every visit (100 ms of CPU). The folder belongs to root alone and is named by the bundle's hash.
"""

import os
import shutil
import tempfile
import zipfile
from typing import Optional


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
