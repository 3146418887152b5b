"""`fleet commit [ROLLOUT]`: retire the held old masters of a rollout."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from fleet.commands.all_hosts import Operation, carry_out_on_all
from fleet.commands.engine_run import output_of
from fleet.commands.recording import Recorder, holding
from fleet.commands.upgrade import LEASE_S
from fleet.environment import Asked, World
from fleet.journal.journal import Journal
from fleet.rollout.policy import Policy
from fleet.rollout.unbatched import committing, decide_commit


def commit(world: World, asked: Asked, wanted: str | None, *, drain_timeout_s: float, cut: bool) -> int:
    """No host of the rollout holds an old master any more; the exit code."""
    policy = Policy(parallel=asked.parallel, drain_timeout_s=drain_timeout_s, cut=cut, lease_s=LEASE_S)
    operation = Operation("commit", policy, committing, partial(decide_commit, policy))
    output = output_of(asked)
    # The hosts are looked at under the lock: what was seen while another run was at work would be out of date.
    with (
        Journal.open(asked.journal) as journal,
        holding(journal, output, asked, world.operator(), "commit", wanted or "") as recorder,
    ):
        return carry_out_on_all(world, asked, output, wanted, operation, partial(_named, recorder))


@contextmanager
def _named(recorder: Recorder, rollout: str) -> Iterator[Recorder]:
    recorder.name(rollout)
    yield recorder
