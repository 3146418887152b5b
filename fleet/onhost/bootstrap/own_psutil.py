"""The psutil by which the step script signals nginx: the bundle's, else the host's own.

The host's own is used only when the bundle has none for this platform, or when that one can't be loaded here (a noexec
file system, another C library). Python is started without the host's site-packages (-S), which cost every visit 5 ms.
A look needs no psutil, so that `fleet status` shows a host that has none.
"""

import os
import sys
from types import ModuleType
from typing import Optional

from fleet.onhost.bootstrap.start import LIB, WHEEL


def loaded() -> ModuleType:
    """psutil. Raises ImportError, which says why neither the bundle's nor the host's own can be loaded."""
    try:
        return _imported()
    except ImportError as error:
        why = _why_not_unpacked() or error
    sys.path[:] = [path for path in sys.path if os.path.basename(path) != WHEEL]
    if sys.flags.no_site:
        import site

        site.main()
    try:
        return _imported()
    except ImportError as error:
        raise ImportError("the bundle's: %s; the host's own: %s" % (why, error))


def _imported() -> ModuleType:
    try:
        import psutil
    except ImportError:
        # What was loaded of it must not stand in the way of another one.
        for name in [name for name in sys.modules if name.partition(".")[0] == "psutil"]:
            del sys.modules[name]
        raise
    return psutil


def _why_not_unpacked() -> Optional[str]:
    """Why the bundle was not unpacked, where this very module was loaded from the bundle itself."""
    bundle = __file__
    for _ in "fleet/onhost/bootstrap/own_psutil.py".split("/"):
        bundle = os.path.dirname(bundle)
    if not os.path.isfile(bundle):
        return None
    from fleet.onhost.bootstrap import unpack

    return unpack.unpack(bundle, os.path.join(os.path.dirname(bundle), LIB))
