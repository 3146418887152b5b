"""`stage`: unpack and check the uploaded release. Changes nothing that runs.

The controller uploads one gzip file. It is unpacked and hashed in one pass, under a name that holds this process's pid,
because visits to two instances may share the state folder at the same time.
"""

import os
from typing import BinaryIO, Optional

from fleet.onhost.bootstrap.receive import forget_given_up as forget_given_up_bundles
from fleet.onhost.bootstrap.safe_folders import GIVEN_UP_S
from fleet.onhost.protocol import Upload
from fleet.onhost.state.store import KEEPING, Store
from fleet.onhost.system.machine import Machine

PART = ".part"
PACKED = PART + ".gz"


class ReleaseMissing(Exception):
    """The store lacks the release. Its folder is there, so that the controller can upload the bytes."""


class WrongBytes(Exception):
    """The uploaded bytes are not the release that the request names."""


def is_uploaded(store: Store, sha256: str) -> bool:
    """Whether the compressed release waits to be unpacked."""
    return store.machine.exists(store.release(sha256) + PACKED)


def stage(machine: Machine, store: Store, sha256: str, most_bytes: Optional[int] = None) -> str:
    """The path of the release, complete, executable and no larger than `most_bytes`.

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
        # Another visit may have been quicker and taken the uploaded file.
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


def receive_release(machine: Machine, upload: Upload, source: BinaryIO) -> Optional[str]:
    """Store the bytes that were sent, for `stage` to unpack and to check. Returns why that failed, or `None`."""
    packed = Store(machine, upload.state_dir).release(upload.target) + PACKED
    part = "%s.%d" % (packed, os.getpid())
    try:
        machine.unlink(part)
        if machine.fill(part, source) != upload.size_bytes:
            return "it was cut off"
        machine.rename(part, packed)
    except OSError as error:
        return "%s: %s" % (part, error.strerror or error)
    finally:
        machine.unlink(part)
    return None


def forget_given_up(machine: Machine, store: Store) -> None:
    """Remove parts of uploads and bundles that were not written to for `GIVEN_UP_S`. Raises OSError."""
    top = store.root + "/releases"
    for folder in machine.names(top):
        for name in machine.names("%s/%s" % (top, folder)):
            path = "%s/%s/%s" % (top, folder, name)
            if (PART in name or KEEPING in name) and machine.age_s(path) > GIVEN_UP_S:
                machine.unlink(path)
    forget_given_up_bundles(store.root + "/bundles")
