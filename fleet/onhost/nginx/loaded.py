"""What the running master has loaded, against what lies on the disk by now.

Nothing prints a master's memory. But a reload forks new workers, so the oldest worker that isn't draining is about as
old as the configuration in memory, and a file whose ctime is later has been changed since: ctime, because a deployment
may set back the time of last change.
"""

import datetime
import os
import re
import stat

from fleet.onhost.nginx.configuration import Configuration
from fleet.onhost.protocol import Master
from fleet.onhost.state.store import Serving
from fleet.onhost.system.machine import Machine
from fleet.onhost.text import listed

SLACK_S = 0.03  # a start is known to a tick, a ctime to another; a longer one would hide a change right after a reload


def loaded_at_s(machine: Machine, old: Master, serving: Serving) -> float:
    """When the master loaded its configuration, in seconds since 1970.

    Workers that were revived beside a new master are younger than what they serve: HUP did not read the files then.
    """
    living = [worker for worker in old.workers if not worker.draining]
    if serving.loaded_at_s is not None and {(worker.pid, worker.start) for worker in living} & set(serving.revived):
        return serving.loaded_at_s
    return machine.began_s(min([worker.start for worker in living] or [old.start]))


def changed_since(machine: Machine, config: Configuration, loaded_s: float) -> str:
    """The files of the configuration that were changed after that, and when, in words; empty when none was."""
    folders = {
        os.path.dirname(pattern) for pattern in config.patterns if re.search(r"[*?\[]", os.path.basename(pattern))
    }
    changed = []
    for path in config.files + tuple(sorted(folders)):
        seen = machine.stat(path)
        if seen is None:
            continue
        at_s = seen.st_mtime if stat.S_ISDIR(seen.st_mode) else seen.st_ctime
        if at_s > loaded_s + SLACK_S:
            changed.append("%s (%s)" % (path, clock(at_s)))
    return listed(changed)


def clock(at_s: float) -> str:
    return datetime.datetime.fromtimestamp(at_s).strftime("%Y-%m-%d %H:%M:%S")
