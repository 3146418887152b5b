"""The first events of a run hold all that it knows of the hosts when it begins."""

from dataclasses import replace
from datetime import timedelta
from functools import reduce

from fleet.onhost.protocol import Ask, Outcome
from fleet.rollout.commit import commit_status
from fleet.rollout.host_status import Fault, FaultKind, HostStatus, LastVisit, Progress, UnresolvedVisit
from fleet.rollout.initial_events import initial_events
from fleet.rollout.rollback import rollback_status
from fleet.rollout.rollout_status import RolloutStatus, fold
from tests.support.pretend.visits import AT, REFUSED, UNREACHABLE, a_fleet
from tests.support.rollout.from_hosts import HELD, look
from tests.support.rollout.playing import play


def folded(start: RolloutStatus) -> RolloutStatus:
    return reduce(fold, initial_events(start, AT), RolloutStatus())


def test_a_run_that_knows_nothing_of_its_hosts_begins_with_one_event() -> None:
    hosts = {name: HostStatus(name, 1) for name in ("web-01", "web-02")}
    start = RolloutStatus("r1", hosts, (tuple(hosts),), started_at=AT)

    assert len(list(initial_events(start, AT))) == 1
    assert folded(start) == start


def test_the_first_events_carry_everything_that_is_known_of_a_host() -> None:
    host = HostStatus(
        "web-01",
        1,
        progress=Progress.BEGUN,
        fault=Fault(FaultKind.UNREACHABLE, "timeout", "no answer", "look"),
        unresolved=UnresolvedVisit(Ask.ROLLBACK, AT, AT + timedelta(seconds=1), 2),
        last=LastVisit(outcome=Outcome.UNREACHABLE, reason="timeout", message="no answer", remedy="look"),
        passed_gate=True,
    )
    start = RolloutStatus("r1", {host.name: host}, (("web-01",),), started_at=AT)

    assert folded(start) == start


def test_a_rollback_and_a_commit_begin_with_what_the_look_has_shown() -> None:
    fleet = a_fleet(4)
    fleet.outcomes["web-03", Ask.UPGRADE].append(REFUSED)
    play(fleet, replace(HELD, max_failures=4))
    fleet.outcomes["web-02", Ask.LOOK].append(UNREACHABLE)
    looked = look(fleet)

    for begin in (rollback_status, commit_status):
        start = replace(begin(looked, "20261123-1000-test"), started_at=AT)
        assert folded(start) == start
