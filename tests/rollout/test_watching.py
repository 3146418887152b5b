"""Leases and claims are renewed while a host waits: by half of their time, and again soon if that failed."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from fleet.onhost.protocol import Ask
from fleet.rollout.actions import BeginVisit, Wait
from fleet.rollout.host_status import (
    Fault,
    FaultKind,
    HostStatus,
    LastVisit,
    PastVisits,
    Progress,
    RunningVisit,
    UnresolvedVisit,
)
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.watching import renewals
from tests.support.pretend.visits import AT, a_fleet
from tests.support.rollout.playing import play

LEASED = Policy(bake_s=0.0, lease_s=60.0)
HELD = HostStatus(
    "web-01",
    1,
    progress=Progress.UPGRADED,
    last=LastVisit(Ask.UPGRADE, AT),
    past=PastVisits(renewed_at=AT),
)


def moves(host: HostStatus, after_s: float, policy: Policy = LEASED) -> tuple[object, ...]:
    return renewals(policy, RolloutStatus("r1", {host.name: host}, ((host.name,),)), later(after_s))


def later(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def test_a_held_host_is_looked_at_by_half_of_its_lease() -> None:
    assert moves(HELD, 29.0) == (Wait(later(30.0)),)
    assert moves(HELD, 30.0) == (BeginVisit("web-01", Ask.BAKE, 1),)


def test_without_a_lease_the_claim_is_renewed_all_the_same() -> None:
    assert moves(HELD, 299.0, Policy()) == (Wait(later(300.0)),)
    assert moves(HELD, 300.0, Policy()) == (BeginVisit("web-01", Ask.BAKE, 1),)


def test_a_failed_look_is_repeated_after_ten_seconds() -> None:
    failed = replace(HELD, last=LastVisit(Ask.BAKE, later(30.0)))

    assert moves(failed, 32.0) == (Wait(later(40.0)),)
    assert moves(failed, 40.0) == (BeginVisit("web-01", Ask.BAKE, 1),)


def test_only_idle_hosts_that_wait_for_a_gate_or_the_commit_are_looked_at() -> None:
    for other in (
        replace(HELD, running=RunningVisit(Ask.BAKE, AT)),
        replace(HELD, unresolved=UnresolvedVisit(Ask.COMMIT, AT, AT)),
        replace(HELD, fault=Fault(FaultKind.FAILED)),
        replace(HELD, progress=Progress.COMMITTED),
        replace(HELD, progress=Progress.STAGED),
        replace(HELD, past=PastVisits({Ask.COMMIT: 1}, renewed_at=AT)),
    ):
        assert moves(other, 999.0) == ()


def test_no_lease_runs_out_while_later_batches_are_at_work() -> None:
    fleet = a_fleet(6)
    policy = Policy(bake_s=90.0, lease_s=60.0)

    end, game = play(fleet, policy, sizes=(1, 1, 1))

    assert end.exit_code == 0
    looks = [event.at for event in game.events if event.data.get("ask") == "bake" and event.host == "web-01"]
    gaps = [(after - before).total_seconds() for before, after in pairwise(looks)]
    assert max(gaps) <= 40.0
