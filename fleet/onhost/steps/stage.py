"""`stage`: the release is on the host, whole, and the host can be upgraded to it. Changes nothing that runs.

It is brought as one gzip file beside its place, and unpacked and hashed in one go to a name of this process's own: two
visits at a time, of two instances that share the state folder, don't meet in one file.
"""

import os
from typing import Optional

from fleet.onhost.bootstrap import receive
from fleet.onhost.state.store import KEEPING, Store
from fleet.onhost.system.machine import Machine

PART = ".part"
PACKED = PART + ".gz"


class ReleaseMissing(Exception):
    """The store lacks the release; its folder is made, so that the controller can bring the bytes."""


class WrongBytes(Exception):
    """What was brought is not the release that was announced."""


def stage(machine: Machine, store: Store, sha256: str, most_bytes: Optional[int] = None) -> str:
    """Where the release lies, complete and executable; it has no more than `most_bytes`.

    Raises `ReleaseMissing`, `WrongBytes` or OSError.
    """
    final = store.release(sha256)
    if store.has(sha256):
        return final
    machine.make_folder(os.path.dirname(final))
    part = "%s%s.%d" % (final, PART, os.getpid())
    machine.unlink(part)
    try:
        found = machine.unpack(final + PACKED, part, most_bytes)
        if found != sha256:
            raise ValueError("got %s, expected %s" % (found[:12], sha256[:12]))
        os.chmod(part, 0o755)
        machine.rename(part, final)
    except FileNotFoundError:
        # Another visit may have been quicker, and have taken what was brought.
        if store.has(sha256):
            return final
        forget_given_up(machine, store)
        raise ReleaseMissing(final + PACKED)
    except ValueError as error:
        machine.unlink(final + PACKED)
        raise WrongBytes("%s: %s" % (final + PACKED, error))
    finally:
        machine.unlink(part)
    machine.unlink(final + PACKED)
    return final


def forget_given_up(machine: Machine, store: Store) -> None:
    """No part of an upload is left that nobody has written to for so long, nor of a bundle. Raises OSError."""
    top = store.root + "/releases"
    for folder in machine.names(top):
        for name in machine.names("%s/%s" % (top, folder)):
            path = "%s/%s/%s" % (top, folder, name)
            if (PART in name or KEEPING in name) and machine.age_s(path) > receive.GIVEN_UP_S:
                machine.unlink(path)
    receive.forget_given_up(store.root + "/bundles")
