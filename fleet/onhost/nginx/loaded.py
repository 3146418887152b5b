"""When the running master loaded its configuration, and which files changed after that.

nginx offers no way to print a master's memory. But a reload starts new workers, so the oldest worker that is not draining
is about as old as the configuration in memory. A file with a later ctime has been changed since. fleet uses ctime,
because deployment tools may set mtime back.
"""

import datetime
import os
import stat

from fleet.onhost.nginx.config_files import ConfigFiles, Seen
from fleet.onhost.observation import Master
from fleet.onhost.state.store import Serving
from fleet.onhost.system.machine import Machine
from fleet.onhost.text import listed

SLACK_S = 0.03  # Start times and ctimes are rounded to a tick. A longer slack would hide a change right after a reload.


def loaded_at_s(machine: Machine, old: Master, serving: Serving) -> float:
    """When the master loaded its configuration, in seconds since 1970.

    Workers that HUP revived beside a new master are younger than the configuration they serve: that HUP read no files.
    """
    living = [worker for worker in old.workers if not worker.draining]
    if serving.loaded_at_s is not None and {(worker.pid, worker.start) for worker in living} & set(serving.revived):
        return serving.loaded_at_s
    return machine.began_s(min([worker.start for worker in living] or [old.start]))


def changed_since(machine: Machine, pid: int, config: ConfigFiles, loaded_s: float) -> str:
    """The files of this master's configuration that changed after `loaded_s`, each with the time, as text; empty: none did."""
    view = Seen(machine, pid)
    changed = []
    for path in config.files + config.folders:
        found = view.stat(path)
        if found is None:
            continue
        at_s = found.st_mtime if stat.S_ISDIR(found.st_mode) else found.st_ctime
        if at_s > loaded_s + SLACK_S:
            changed.append("%s (%s)" % (os.fsencode(path).decode("utf-8", "replace"), clock(at_s)))
    return listed(changed)


def clock(at_s: float) -> str:
    return datetime.datetime.fromtimestamp(at_s).strftime("%Y-%m-%d %H:%M:%S")
