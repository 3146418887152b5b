"""The workers that finish their connections: how many those are, since when, and when nginx closes what is left.

The kernel keeps no time at which a connection was made (`inet_diag` and the inode of a socket have none). But a worker
that drains accepts nothing, so each of its connections is at least as old as its drain. When that began, two things show:

- fleet's own journal on the host, which has every signal: WINCH to the old master, QUIT to the new one;
- the workers of the same master that accept: a reload starts them, and then tells the others to finish.

Where neither is there (a WINCH by hand), the time is not known, and none is made up.
"""

import re
from typing import Collection, List, NamedTuple, Optional, Sequence, Tuple

from fleet.onhost.nginx.loaded import changed_since
from fleet.onhost.nginx.master_paths import config_of
from fleet.onhost.observation import Master, Observation, Worker
from fleet.onhost.state.store import InstanceStore, Serving
from fleet.onhost.system.machine import Machine
from fleet.onhost.system.sock_diag import Established
from fleet.onhost.views import SILENT_S, DrainView

DIRECTIVE = "worker_shutdown_timeout"
SAME_DRAIN_S = 1.0
UNITS_S = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
"""The units of ngx_parse_time() where a setting is in milliseconds."""
TIME = re.compile(r"(\d+)\s*(ms|[smhdw]?)\s*")


class Timeout(NamedTuple):
    """`worker_shutdown_timeout` in a master's memory. `changed` says which of its files were changed since it was loaded."""

    seconds: Optional[float] = None
    changed: str = ""


def drain_view(machine: Machine, own: Optional[InstanceStore], seen: Observation) -> Optional[DrainView]:
    """What drains now; `None` where nothing does. Nothing is read then."""
    drained = [(master, worker) for master in seen.masters for worker in master.draining]
    if not drained:
        return None
    held = _clients(machine, seen, [worker for _, worker in drained])
    ages = [_drains_for_s(machine, own, master, worker) for master, worker in drained]
    timeout = _shutdown_timeout(machine, own, seen)
    known = [age for age in ages if age is not None]
    cut_in_s = None
    if timeout.seconds is not None and len(known) == len(ages):
        cut_in_s = max(0.0, timeout.seconds - min(known))
    return DrainView(
        workers=len(drained),
        connections=sum(map(len, held)),
        since_s=max(known) if known else None,
        ages=_grouped([(age, len(own_held)) for age, own_held in zip(ages, held) if age is not None]),
        shutdown_timeout_s=timeout.seconds,
        cut_in_s=cut_in_s,
        silent=sum(one.silent_s is not None and one.silent_s >= SILENT_S for each in held for one in each),
        changed=timeout.changed,
    )


def _clients(machine: Machine, seen: Observation, workers: Sequence[Worker]) -> List[List[Established]]:
    """The connections that clients have to each worker; those that it has to an upstream are to another port."""
    own = [machine.socket_inodes(worker.pid) for worker in workers]
    every = machine.among(frozenset().union(*own), workers[0].pid)
    ports = _ports(machine, seen)
    return [[one for one in every if one.inode in inodes and (not ports or one.port in ports)] for inodes in own]


def _ports(machine: Machine, seen: Observation) -> Collection[int]:
    """The TCP ports that any of the masters listens on."""
    found = set()
    for master in seen.masters:
        listeners = machine.listeners(master.pid)
        for inode in master.listeners:
            port = listeners[inode].address.rpartition(":")[2] if inode in listeners else ""
            if port.isdigit() and listeners[inode].kind.startswith("tcp"):
                found.add(int(port))
    return found


def _drains_for_s(machine: Machine, own: Optional[InstanceStore], master: Master, worker: Worker) -> Optional[float]:
    """How long the worker has been draining, at least, in seconds; `None` where nothing shows it."""
    age_s = machine.age_of_process_s(worker.start)
    found = []
    if master.accepting and min(one.start for one in master.accepting) > worker.start:
        found.append(machine.age_of_process_s(min(one.start for one in master.accepting)))
    for entry in own.signals(master.pid, master.start, ("SIGWINCH", "SIGQUIT")) if own else ():
        sent_s = entry.get("boot_s")
        if isinstance(sent_s, (int, float)):
            found.append(machine.boottime_s() - sent_s)
    return max((max(0.0, one) for one in found if one <= age_s), default=None)


def _grouped(each: List[Tuple[float, int]]) -> Tuple[Tuple[float, int], ...]:
    """The workers that began to drain together as one pair; the longest drain first."""
    found: List[Tuple[float, int]] = []
    for age_s, count in sorted(each, reverse=True):
        if found and found[-1][0] - age_s < SAME_DRAIN_S:
            found[-1] = (found[-1][0], found[-1][1] + count)
        else:
            found.append((age_s, count))
    return tuple(found)


def _shutdown_timeout(machine: Machine, own: Optional[InstanceStore], seen: Observation) -> Timeout:
    """That of the old of two masters. After a reload, the workers that drain have a configuration that is no file any more."""
    if len(seen.masters) != 2 or not seen.masters[0].draining:
        return Timeout()
    old = seen.masters[0]
    config = config_of(machine, old)
    if config is None or not config.files:
        return Timeout(changed="its configuration can't be read")
    changed = changed_since(machine, old.pid, config, _loaded_s(machine, old, own.serving if own else Serving()))
    if changed:
        return Timeout(changed="changed since it was loaded: " + changed)
    given = [seconds for seconds in map(seconds_of, config.values(DIRECTIVE)) if seconds]
    return Timeout(given[0] if given else None)


def _loaded_s(machine: Machine, old: Master, serving: Serving) -> float:
    """When the draining workers' configuration was loaded, in seconds since 1970: as `launch` noted it, else as they began."""
    if serving.master == (old.pid, old.start) and serving.loaded_at_s is not None:
        return serving.loaded_at_s
    return machine.began_s(min(worker.start for worker in old.draining))


def seconds_of(value: str) -> Optional[float]:
    """A time as nginx writes it (`30`, `1h30m`, `500ms`), in seconds; `None` where it is none."""
    parts = TIME.findall(value)
    if not parts or TIME.sub("", value).strip():
        return None
    return sum(int(number) * UNITS_S[unit] for number, unit in parts)
