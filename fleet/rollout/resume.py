"""What a resume makes of a rollout's earlier runs: which way it goes on, and what need not be watched again. Pure.

The hosts say where they are, and only they: from the journal come the plan, the policy and the release, and which batches
had passed their gate. A host that has gone back since is upgraded again; one that has arrived is left as it is.
"""

from collections.abc import Iterable, Sequence
from enum import Enum

from fleet.events import Result
from fleet.rollout.gate import Verdict
from fleet.rollout.host_status import HostStatus
from fleet.rollout.rollout_status import RolloutStatus, Stage

PAST_THE_GATE = (Stage.JUDGED, Stage.COMMITTING, Stage.CLOSING, Stage.ENDED)


class Onward(Enum):
    """What going on with a rollout means."""

    UPGRADE = "upgrade"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    NOWHERE = "nowhere"


def onward(runs: Sequence[tuple[str, RolloutStatus]], planned: frozenset[str] = frozenset()) -> Onward:
    """Which way a rollout of the hosts that were `planned` goes on after its runs: each one's command, and where it came.

    What was being taken back is taken back; what *was* taken back stays so until a new upgrade: a host that was says so
    itself, so that the others may go on. A commit is gone on with when it was interrupted; one in which a host failed
    has settled nothing, and the run before it decides.
    """
    decisive = [run for run in runs if run[0] != "commit" or run[1].result is not Result.HALTED]
    if not decisive:
        return Onward.UPGRADE
    command, last = decisive[-1]
    if command == "rollback" or last.going_back:
        is_back = last.result is Result.ROLLED_BACK and not any(host.needs_person for host in last.all)
        if not is_back:
            return Onward.ROLLBACK
        return Onward.NOWHERE if planned <= set(last.hosts) else Onward.UPGRADE
    if command == "commit" and last.result in (None, Result.INTERRUPTED):
        return Onward.COMMIT
    return Onward.UPGRADE


def proven(runs: Iterable[RolloutStatus]) -> frozenset[str]:
    """The hosts that were seen well to the end of their batch's bake, in any of these upgrading runs."""
    return frozenset(host.name for run in runs for host in run.all if host.fault is None and _is_proven(run, host))


def _is_proven(run: RolloutStatus, host: HostStatus) -> bool:
    passed = run.batch if run.gate is Verdict.PASSED and run.stage in PAST_THE_GATE else run.batch - 1
    return host.proven or 0 < (host.batch or 0) <= passed


def beginning(rollout: str, batches: Iterable[Iterable[str]], well: frozenset[str]) -> RolloutStatus:
    """The status with which a resumed run begins: nothing is taken for granted but what was seen of the bakes."""
    kept = tuple(tuple(batch) for batch in batches)
    hosts = {
        name: HostStatus(name, number, proven=name in well) for number, batch in enumerate(kept, 1) for name in batch
    }
    return RolloutStatus(rollout, hosts, kept)
