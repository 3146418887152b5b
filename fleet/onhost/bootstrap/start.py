"""Starts the step script of the bundle that is stored here.

The text of this file arrives as the first line of stdin, after that of `safe_folders`; the bundle's own entry imports it,
too. It loads as little as it can, because every conversation pays for it.
"""

import os
import signal
import sys

from fleet.onhost.bootstrap.safe_folders import failed, first_unsafe

LIB, WHEEL = "lib", "psutil-wheel"
"""What a bundle is unpacked to, and psutil's folder in it."""


def is_ready(bundle: str) -> bool:
    """Whether `import fleet` gives the step script of this bundle, which belongs to root alone.

    If it does not, the answer is printed: `unsafe PLACE` or `failed WHY`.
    """
    signal.alarm(0)
    folder = os.path.dirname(bundle)
    try:
        unsafe = first_unsafe(folder)
        answer = None if unsafe is None else "unsafe " + unsafe
    except OSError as error:
        answer = failed(error, folder)
    if answer is not None:
        sys.stdout.write("fleet-" + answer + "\n")
        sys.stdout.flush()
        return False
    sys.argv[:] = [bundle]
    prepare(bundle)
    return True


def prepare(bundle: str) -> None:
    """Make `import fleet` give what was unpacked from the bundle, and unpack it before if it is new.

    Where it can't be unpacked, the bundle itself is imported from. Python then compiles every module at every visit.
    A fork that enters the bundle once more has it all (`system/left_behind.py`).
    """
    os.umask(0o077)
    lib = os.path.join(os.path.dirname(os.path.abspath(bundle)), LIB)
    if lib in sys.path:
        return
    if not os.path.isdir(lib):
        sys.path.insert(0, bundle)
        from fleet.onhost.bootstrap import unpack

        if unpack.unpack(bundle, lib) is not None:
            return
        sys.path.remove(bundle)
    for name in [name for name in sys.modules if name.partition(".")[0] == "fleet"]:
        del sys.modules[name]
    # Bytecode may be cached: only root can write there, and the folder never changes.
    sys.dont_write_bytecode = False
    sys.path[:0] = [lib, os.path.join(lib, WHEEL)]
