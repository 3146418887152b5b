"""The exit codes, and what the last lines of all runs share: names of hosts, and the complete command to type next.

Exit code 4 beats 3: a host that was changed and is not known to be at rest needs a person, whatever else happened.
"""

from collections.abc import Iterable

from fleet.onhost.text import counted, listed
from fleet.rollout.host_status import HostStatus
from fleet.rollout.rollout_status import RolloutStatus

OK, REFUSED, HALTED, PERSON, HELD_BY_OTHERS, INTERRUPTED = 0, 2, 3, 4, 5, 130


def names(hosts: Iterable[HostStatus], most: int = 5) -> str:
    """The hosts' names in one line: the first `most`, and how many more there are."""
    return listed((host.name for host in hosts), most)


def some_of(count: int, status: RolloutStatus) -> str:
    """`2 of 4 hosts`."""
    return f"{count} of {counted(len(status.hosts))}"


def line(status: RolloutStatus, command: str) -> str:
    """The line of a command that takes the rollout: `fleet rollback ROLLOUT` with the operator's own options."""
    return status.typed.other(command, status.rollout).quoted


def see_status(status: RolloutStatus) -> str:
    """The line that shows where the hosts are."""
    return status.typed.other("status").quoted


def needs_person(status: RolloutStatus) -> str:
    """A sentence that names the hosts that need a person, or nothing."""
    needing = [host for host in status.all if host.needs_person]
    return f" Needs a person: {names(needing)}. See {see_status(status)}." if needing else ""


def code(status: RolloutStatus, otherwise: int) -> int:
    """`PERSON` if a host needs one, else the other code."""
    return PERSON if any(host.needs_person for host in status.all) else otherwise


def leases(status: RolloutStatus) -> str:
    """The sentence that held hosts with a lease roll themselves back, and how soon."""
    held = [(host.name, host.report) for host in status.all if host.held and host.report]
    owed = [(name, report) for name, report in held if report.lease_left_s is not None]
    dead = [name for name, report in owed if report.watcher is not None and not report.watcher.is_alive]
    left_s = [report.lease_left_s for name, report in owed if name not in dead and report.lease_left_s is not None]
    text = f" No watcher keeps the lease of {listed(dead, 5)}: see {see_status(status)}." if dead else ""
    if left_s:
        text = f" Each held host rolls itself back when its lease expires, the first in {min(left_s):.0f} s.{text}"
    return text
