"""`--hold-package`: the package of nginx is held at its version while the host is held, and released afterwards.

The hold is the package manager's own, so it stops apt and dnf, though not `dpkg -i`. The host notes it before it asks for it:
whatever dies, a later visit of any kind finds the note and releases what fleet has held, and nothing that a person has held.
"""

from contextlib import suppress
from typing import NamedTuple, Optional, Tuple

from fleet.onhost.packages.owner import Manager
from fleet.onhost.state.known_package import owner_at
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.system.host_tools import TOOL_ENV
from fleet.onhost.wire import Malformed

FILE = "package-hold.json"
HOLD_TIMEOUT_S = 60.0
"""dnf takes seconds, and waits for its lock."""


class PackageHold(NamedTuple):
    """The package that fleet has held, and by which package manager."""

    manager: Manager
    package: str


class NotDone(Exception):
    """The package manager did not do it; the text says why. `command` is what was run."""

    def __init__(self, command: Tuple[str, ...], why: str) -> None:
        self.command = " ".join(command)
        super().__init__(why)


def hold_package(own: InstanceStore, path: Optional[str]) -> None:
    """Hold the package that owns the file, unless it is on hold. Raises `NotDone` and OSError; then nothing is held."""
    owner = owner_at(own.machine, own, path)
    if owner is None or owner.on_hold:
        return
    command = owner.manager.hold(owner.package)
    if owner.manager is Manager.APK:
        raise NotDone(command, "fleet can't hold a package of apk")
    own.save(FILE, PackageHold(owner.manager, owner.package))
    try:
        _run(own, command)
        held = owner_at(own.machine, own, path)
        if held is None or not held.on_hold:
            raise NotDone(command, "it ended well, and the package is not on hold")
    except NotDone:
        own.remove(FILE)
        raise


def held_by_fleet(own: InstanceStore) -> Optional[PackageHold]:
    """The package that fleet has held for this instance; `None` where there is none."""
    with suppress(Malformed):
        found: Optional[PackageHold] = own.load(PackageHold, FILE)
        return found
    return None


def release_package(own: InstanceStore) -> None:
    """Release what fleet has held. Raises `NotDone` and OSError; then a later visit tries it again."""
    held = held_by_fleet(own)
    if held is not None:
        _run(own, held.manager.unhold(held.package))
        own.remove(FILE)


def _run(own: InstanceStore, command: Tuple[str, ...]) -> None:
    ran = own.machine.run(command, HOLD_TIMEOUT_S, env=TOOL_ENV)
    if ran.code != 0:
        lines = ran.output.strip().splitlines()
        raise NotDone(command, lines[-1] if lines else "it ended with %d" % ran.code)
