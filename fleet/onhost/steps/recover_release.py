"""A binary that the store has lost may still run somewhere: its bytes are those of any process that executes it."""

from typing import Dict, Optional, Tuple

from fleet.onhost.steps.context import StepContext
from fleet.onhost.system.machine import Machine


def has_or_rescued(context: StepContext, sha256: str) -> bool:
    """Whether the store has the release, be it that it was taken out of a running process just now. Raises OSError."""
    if context.store.has(sha256):
        return True
    pid = runs_it(context.machine, sha256)
    if pid is None:
        return False
    context.store.keep("/proc/%d/exe" % pid, sha256)
    context.warn("release_rescued", sha256=sha256[:12], pid=pid)
    return True


def runs_it(machine: Machine, sha256: str) -> Optional[int]:
    """A living process whose image has this hash; each image is read once."""
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
