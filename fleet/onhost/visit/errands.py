"""What a host does later by itself, by its watcher: it goes back when its lease runs out, and retires its old master when
a commit was left to it.
"""

from functools import partial
from typing import Tuple

from fleet.onhost.instance import Instance
from fleet.onhost.protocol import Outcome
from fleet.onhost.state import lease, retirement
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.state.watcher import Errand
from fleet.onhost.visit.answer import go_back_by_lease
from fleet.onhost.visit.end import End, ended
from fleet.onhost.visit.retire import retire_by_itself

HOPELESS = ("foreign", "down", "bad_record", "release_lost", "path_changed")
"""The reasons that a second try does not change: a person must look."""


def errands(own: InstanceStore) -> Tuple[Errand, ...]:
    """What the watcher of this instance minds. `fleet/onhost/state/watched.py:OWED` has the same things."""
    return (_lease(own), _retirement(own))


def _lease(own: InstanceStore) -> Errand:
    def do(is_last: bool) -> bool:
        return lease.act_if_out(own, lambda found: log_lease(own, found), is_last)

    return Errand("lease", lambda: lease.left_s(own), do)


def _retirement(own: InstanceStore) -> Errand:
    return Errand("retirement", lambda: retirement.due_in_s(own), partial(retire_by_itself, own))


def log_lease(own: InstanceStore, found: lease.Lease) -> bool:
    """Take the host back, and say in its syslog how that ended. Whether a second try makes sense."""
    end = _gone_back(own, found)
    own.machine.syslog("the lease of rollout %s ran out: %s %s" % (found.rollout, end.outcome.value, end.message))
    return end.outcome is not Outcome.DONE and end.reason not in HOPELESS


def _gone_back(own: InstanceStore, found: lease.Lease) -> End:
    layout, record = own.layout, own.record
    if layout is None or record is None:
        return ended(Outcome.FAILED, "bad_record", error="%s is not whole" % own.folder)
    return go_back_by_lease(Instance.at(own.machine, layout)._replace(kept=own), record, found)
