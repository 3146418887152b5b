"""What a lab needs of this machine; checked before anything is changed."""

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
"""What the hosts run the step script with. They don't see a Python in another folder."""


def check_root() -> None:
    """Check that this process may make and change labs. Raises `Refused`."""
    if sys.platform != "linux":
        raise Refused(
            "The lab needs Linux, because its hosts are namespaces.",
            "Run it on a Linux server or in a virtual machine.",
        )
    if os.geteuid() != 0:
        raise Refused(
            "The lab needs root, because it makes namespaces, mounts and network links.",
            "Run the same command with sudo.",
        )


def check(path: str = PATH) -> None:
    """Check that a lab can be brought up with the programs of `path`. Raises `Refused`, which lists all that is missing."""
    check_root()
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if not os.path.exists(PYTHON):
        missing.append(PYTHON)
    if missing:
        packages = sorted({PROGRAMS.get(name, "python3") for name in missing})
        raise Refused(
            f"The lab needs programs that are not installed: {', '.join(missing)}.",
            f"On Debian: apt-get install --no-install-recommends {' '.join(packages)}",
        )
    disk.check_root()
