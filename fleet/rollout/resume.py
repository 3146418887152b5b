"""What `fleet resume` takes from a rollout's earlier runs: how to continue, and which hosts had passed their gate. Pure.

Where each host is now comes from the host alone. The journal gives the plan, the policy, the release, and the batches that
had passed their gate. A host that has gone back since is upgraded again; a host that has arrived stays as it is.
"""

from collections.abc import Iterable, Sequence
from enum import Enum

from fleet.events import Result
from fleet.rollout.host_status import HostStatus, Verdict
from fleet.rollout.rollout_status import RolloutStatus, Stage

PAST_THE_GATE = (Stage.JUDGED, Stage.COMMITTING, Stage.CLOSING, Stage.ENDED)


class ResumeAs(Enum):
    """How an unfinished rollout continues."""

    UPGRADE = "upgrade"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    NOTHING = "nothing"


def resume_as(runs: Sequence[tuple[str, RolloutStatus]], planned: frozenset[str] = frozenset()) -> ResumeAs:
    """How a rollout of the `planned` hosts continues after these runs, each given as its command and its last status.

    An interrupted rollback continues as a rollback. After a finished rollback there is nothing to do, unless it left out
    some of the planned hosts: those may continue, because a host that was rolled back reports that itself. An interrupted
    commit continues as a commit. A commit that halted because a host failed settles nothing, so the run before it decides.
    """
    decisive = [run for run in runs if run[0] != "commit" or run[1].result is not Result.HALTED]
    if not decisive:
        return ResumeAs.UPGRADE
    command, last = decisive[-1]
    if command == "rollback" or last.going_back:
        is_back = last.result is Result.ROLLED_BACK and not any(host.needs_person for host in last.all)
        if not is_back:
            return ResumeAs.ROLLBACK
        return ResumeAs.NOTHING if planned <= set(last.hosts) else ResumeAs.UPGRADE
    if command == "commit" and last.result in (None, Result.INTERRUPTED):
        return ResumeAs.COMMIT
    return ResumeAs.UPGRADE


def passed_gate(runs: Iterable[RolloutStatus]) -> frozenset[str]:
    """The hosts without a fault whose batch passed its gate in one of these upgrades."""
    return frozenset(host.name for run in runs for host in run.all if host.fault is None and _has_passed(run, host))


def _has_passed(run: RolloutStatus, host: HostStatus) -> bool:
    passed = run.batch if run.gate is Verdict.PASSED and run.stage in PAST_THE_GATE else run.batch - 1
    return host.passed_gate or 0 < (host.batch or 0) <= passed


def resumed_status(rollout: str, batches: Iterable[Iterable[str]], passed: frozenset[str]) -> RolloutStatus:
    """The status with which a resumed run begins. Of each host it keeps only whether it had passed its gate."""
    kept = tuple(tuple(batch) for batch in batches)
    hosts = {
        name: HostStatus(name, number, passed_gate=name in passed)
        for number, batch in enumerate(kept, 1)
        for name in batch
    }
    return RolloutStatus(rollout, hosts, kept)
