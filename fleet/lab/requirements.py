"""What a lab needs of the machine, asked before anything is made."""

import os
import shutil
import sys

from fleet.errors import Refused
from fleet.lab.hosts import disk
from fleet.lab.processes import PATH

PROGRAMS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "nginx": "nginx",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "mount": "mount",
    "umount": "mount",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "pivot_root": "util-linux",
    "setsid": "util-linux",
    "ps": "procps",
    "pgrep": "procps",
    "sudo": "sudo",
}
"""Programs, and the package of Debian that has each."""
PYTHON = "/usr/bin/python3"
"""What the hosts run the step script with; a Python elsewhere they don't see."""


def check_root() -> None:
    """We may make and change labs here. Raises `Refused`."""
    if sys.platform != "linux":
        raise Refused(
            "lab: it needs Linux: its hosts are namespaces.", "Run it in a Linux virtual machine or on a Linux server."
        )
    if os.geteuid() != 0:
        raise Refused("lab: it needs root, to make namespaces, mounts and links.", "Say the same again with sudo.")


def check(path: str = PATH) -> None:
    """A lab can be brought up here, with the programs of `path`. Raises `Refused`, with all that is missing."""
    check_root()
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if not os.path.exists(PYTHON):
        missing.append(PYTHON)
    if missing:
        packages = sorted({PROGRAMS.get(name, "python3") for name in missing})
        raise Refused(
            f"lab: not on this machine: {', '.join(missing)}.",
            f"On Debian: apt-get install --no-install-recommends {' '.join(packages)}",
        )
    disk.check_root()
