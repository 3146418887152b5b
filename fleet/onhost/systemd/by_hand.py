"""Lines for a shell of root on the host: what fleet does with a unit, done by hand. `status` prints them on the laptop, too."""

import os
from shlex import quote

from fleet.onhost.systemd.unit import RUNS_SYSTEMD

NAME = "zz-fleet.conf"
"""The file name of fleet's drop-in: the last one in the order of names, so that it counts more than the others."""
NOTIFY_SOCKET = "/run/systemd/notify"


def drop_in_path(unit: str) -> str:
    """The path of fleet's drop-in of this unit. It may have a backslash in it, as names of units have."""
    return "%s/%s.d/%s" % (RUNS_SYSTEMD, unit, NAME)


def no_guard(unit: str) -> str:
    """The line that ends the guard of a unit."""
    return "rm %s && systemctl daemon-reload" % quote(drop_in_path(unit))


def regain(unit: str) -> str:
    """The line that ends every mask of a unit, and has systemd read its file again. Without a mask it changes nothing."""
    name = quote(unit)
    return "systemctl unmask {name}; systemctl unmask --runtime {name}; systemctl daemon-reload".format(name=name)


def follow(unit: str, pid: int) -> str:
    """The line that has systemd take this process for the unit's main one."""
    folder = os.path.dirname(drop_in_path(unit))
    path = quote(folder + "/zz-notify.conf")
    return (
        "mkdir -p {folder} && printf '[Service]\\nNotifyAccess=all\\n' >{path} && systemctl daemon-reload && "
        "NOTIFY_SOCKET={socket} systemd-notify --pid={pid}; rm -f {path}; systemctl daemon-reload"
    ).format(folder=quote(folder), path=path, socket=NOTIFY_SOCKET, pid=pid)
