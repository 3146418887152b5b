"""The bench on two hosts: fleet and a peer do every job, and each run is measured."""

import os
import sys
from pathlib import Path

from tests.bench.peers.contenders import PINNED, Fleet, Shell
from tests.bench.peers.jobs import UPLOADS, Job
from tests.bench.peers.rounds import Plan, rows_of

OWN = str(Path(sys.executable).with_name("fleet"))


def test_fleet_and_a_peer_do_every_job_and_no_host_fails(tmp_path: Path) -> None:
    who = (Fleet("fleet", OWN), Shell("xargs ssh, pinned", PINNED))
    plan = Plan(f"bench-{os.getpid()}", hosts=2, delay_ms=0, rounds=1, jobs=tuple(Job), contenders=who)
    (rows,) = rows_of(plan, peers=tmp_path)

    assert {(row.job, row.name) for row in rows} == {(job, one.name) for job in Job for one in who}
    for row in rows:
        (run,) = row.runs
        assert (run.failed, run.exit_code) == (0, 0), row
        assert run.wall_s > 0, row
        assert run.controller_cpu_s > 0, row
        assert run.host_cpu_s > 0, row
        assert run.wire_bytes > (10_000_000 if row.job in UPLOADS else 1000), row
        assert (run.last_s is not None) == (row.job is Job.HELD), row


def test_a_round_trip_is_made_longer() -> None:
    """`ssh true` needs some ten round trips; without the delay it takes a tenth of a second."""
    plan = Plan(f"bench-{os.getpid()}", 1, 100, 1, (Job.STATUS,), (Shell("xargs ssh, pinned", PINNED),))
    ((row,),) = rows_of(plan, peers=Path())

    assert row.runs[0].failed == 0
    assert row.runs[0].wall_s > 0.5
