"""Who ended the old master of a held host, where fleet did not: a package's script, or something unknown.

The postinst of Debian's and of nginx.org's nginx sends USR2 to the master of the pid file and QUIT to that of `.oldbin`: on
a held host that is a commit (docs/operations.md, "Beside a package manager").
"""

from typing import Optional

from fleet.onhost.instance import Instance
from fleet.onhost.observation import Observation
from fleet.onhost.packages.transactions import installed_since, seconds_of, utc_of
from fleet.onhost.procedure import was_ended_from_outside
from fleet.onhost.protocol import Record, State
from fleet.onhost.state.known_package import owner_at

UNKNOWN = "unknown (QUIT from outside)"
ENDING = ("SIGQUIT", "SIGTERM")


def committed_by(instance: Instance, record: Optional[Record], seen: Observation) -> str:
    """`the package nginx 1.22.1-9+deb12u9, installed 2026-11-23 10:00:05 UTC`, or that it is not known; else empty."""
    if record is None:
        return ""
    if record.state is State.COMMITTED:
        return record.committed_by
    serving = instance.serving
    if not was_ended_from_outside(seen, record, serving.master, serving.verified_master):
        return ""
    if serving.master is not None and instance.own.last_signal(serving.master[0], serving.master[1], ENDING):
        return ""  # fleet's own commit, which died before it wrote the record
    owner = owner_at(instance.machine, instance.kept, seen.path)
    try:
        at_s = installed_since(instance.machine, owner, seconds_of(record.at)) if owner is not None else None
    except ValueError:
        at_s = None
    if owner is None or at_s is None:
        return UNKNOWN
    return "the package %s %s, installed %s" % (owner.package, owner.version, utc_of(at_s))
