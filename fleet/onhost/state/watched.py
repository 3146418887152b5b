"""What an instance owes, and whether its watcher lives. Read only: `status` asks it of every host."""

from typing import Callable, Optional, Tuple

from fleet.onhost.state import lease, retirement
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.views import WatcherView

WATCH_LOCK = "watcher.lock"
"""A watcher of a fleet before 0.3 has `watch.lock`: it knows of leases only, so it does not count as one."""
OWED: Tuple[Callable[[InstanceStore], Optional[float]], ...] = (lease.left_s, retirement.left_s)
"""What a host can owe: each gives its seconds left, `None` where it is not in force."""


def is_owed(own: InstanceStore) -> bool:
    """Whether this instance needs a watcher."""
    return any(left_s(own) is not None for left_s in OWED)


def is_watched(own: InstanceStore) -> bool:
    """Whether a watcher of this instance lives. One that was stopped (SIGSTOP) does not: the next one ends it."""
    return own.is_locked(WATCH_LOCK)


def view(own: InstanceStore) -> Optional[WatcherView]:
    """The watcher as `status` shows it; `None` where nothing is owed."""
    if not is_owed(own):
        return None
    return WatcherView(is_watched(own), own.touched_at(WATCH_LOCK))
