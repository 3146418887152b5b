"""`stage`: the release is on the host, whole, and the host can be upgraded to it. Changes nothing that runs."""

import os

from fleet.onhost.machine import Machine
from fleet.onhost.record import GIVEN_UP_S, KEEPING, Store

PART = ".part"


class ReleaseMissing(Exception):
    """The store lacks the release; its folder is made, so that the controller can bring the bytes."""


class WrongBytes(Exception):
    """What was brought is not the release that was announced."""


def stage(machine: Machine, store: Store, sha256: str) -> str:
    """Where the release lies, complete and executable. Raises `ReleaseMissing`, `WrongBytes` or OSError."""
    final = store.release(sha256)
    if store.has(sha256):
        return final
    machine.make_folder(os.path.dirname(final))
    found = machine.sha256(final + PART)
    if found is None:
        forget_given_up(machine, store)
        raise ReleaseMissing(final + PART)
    if found != sha256:
        machine.unlink(final + PART)
        raise WrongBytes("%s: got %s, expected %s" % (final + PART, found[:12], sha256[:12]))
    os.chmod(final + PART, 0o755)
    machine.rename(final + PART, final)
    return final


def forget_given_up(machine: Machine, store: Store) -> None:
    """No part of an upload is left that nobody has written to for so long. Raises OSError."""
    top = store.root + "/releases"
    for folder in machine.names(top):
        for name in machine.names("%s/%s" % (top, folder)):
            path = "%s/%s/%s" % (top, folder, name)
            if (PART in name or KEEPING in name) and machine.age_s(path) > GIVEN_UP_S:
                machine.unlink(path)
