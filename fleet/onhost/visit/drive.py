"""A host that is ours, taken towards a goal."""

from typing import Optional

from fleet.onhost.protocol import Goal, Record
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.steps.context import Site
from fleet.onhost.visit.heartbeat import fenced
from fleet.onhost.visit.request import Visit
from fleet.onhost.visit.walk import End, act


def walk(visit: Visit, site: Site, goal: Goal) -> End:
    """How far the host came towards the goal; what was asked for, and the end, stand in its syslog."""
    request = visit.request
    what = "%s to %s, rollout %s, by %s" % (request.ask.value, goal.target[:12], request.rollout, request.operator)
    visit.machine.syslog(what + ": begun")
    end = act(site, visit.say, request, goal)
    visit.machine.syslog("%s: %s %s" % (what, end.outcome.value, end.message))
    return end


def site_of(visit: Visit, own: InstanceStore, record: Record, epoch: Optional[int], target: str) -> Site:
    """Where the steps act. With an epoch none begins any more once somebody has taken the host over."""
    return Site(
        machine=visit.machine,
        observer=visit.observer,
        store=visit.store,
        own=own,
        layout=visit.observer.layout,
        options=visit.request.options,
        record=record,
        target=target,
        say=visit.find,
        go_on=visit.go_on if epoch is None else fenced(own, visit.request.rollout, epoch, visit.go_on),
    )


def whose(record: Optional[Record]) -> str:
    """In words, which rollout the host is in."""
    if record is None:
        return "this host keeps no record of a rollout"
    return "this host is in rollout %s by %s (%s)" % (record.rollout, record.operator, record.at)
