"""A binary that the store has lost can be copied from a process that still runs it."""

from typing import Dict, Optional, Tuple

from fleet.onhost.steps.context import StepContext
from fleet.onhost.system.machine import Machine


def has_or_rescued(context: StepContext, sha256: str) -> bool:
    """Whether the store has the release, copied from a running process if need be. Raises OSError."""
    if context.store.has(sha256):
        return True
    pid = runs_it(context.machine, sha256)
    if pid is None:
        return False
    context.store.keep("/proc/%d/exe" % pid, sha256)
    context.warn("release_rescued", sha256=sha256[:12], pid=pid)
    return True


def runs_it(machine: Machine, sha256: str) -> Optional[int]:
    """The pid of a process whose image has this hash, or `None`. Each image is read once."""
    known: Dict[Tuple[int, int], bool] = {}
    for process in machine.processes():
        image = machine.image(process.pid)
        if image is None:
            continue
        if image not in known:
            known[image] = machine.image_sha256(process.pid) == sha256
        if known[image]:
            return process.pid
    return None
