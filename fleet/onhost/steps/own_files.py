"""The file at nginx's path, and the one that fleet keeps beside it.

/proc/PID/exe says by which name a process was executed, wherever that name has gone since, and "(deleted)" for good once
it was removed or another file was renamed over it. needrestart and others then take the program for outdated and restart
it: an outage in a held host. So the old master's own file never loses its name (docs/nginx-facts.md, section 11).
"""

from fleet.onhost.nginx.observe import beside
from fleet.onhost.observation import Observation
from fleet.onhost.steps.context import StepContext, StepRefused
from fleet.onhost.system.machine import Machine


def put_at(context: StepContext, seen: Observation, source: str, path: str) -> None:
    """Put a copy of `source`, the target, at the path; what lay there is kept beside it under fleet's own name.

    The copy is made under that name, and one exchange ends it: whenever this is interrupted, the path has a whole file, and
    the old one has a name by which `restore` finds it. Raises OSError, and `StepRefused` if the copy has other bytes.
    """
    machine, kept, fresh = context.machine, beside(path, "kept"), beside(path, "new")
    take_name_back(machine, seen, path)
    for left in (kept, fresh):
        machine.unlink(left)
    try:
        machine.copy(source, kept, like=path)
        if machine.sha256(kept) != context.target:
            raise StepRefused("disk_error", path=kept)
        if not machine.exchange(kept, path):
            machine.rename(kept, fresh)
            machine.link(path, kept)
            machine.rename(fresh, path)
    except (OSError, StepRefused):
        if machine.sha256(path) != context.target:
            for left in (kept, fresh):
                machine.unlink(left)
        raise


def take_name_back(machine: Machine, seen: Observation, path: str) -> None:
    """Rename the kept file back, if a master executes it and the path has another file with the same bytes.

    Someone may have put the old binary back while the host was held: a package manager, a configuration management.
    """
    kept = beside(path, "kept")
    file = machine.stat(kept)
    if file is None:
        return
    for master in seen.masters:
        if machine.image(master.pid) == (file.st_dev, file.st_ino) and master.sha256 == machine.sha256(path):
            machine.rename(kept, path)
            return
