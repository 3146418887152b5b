"""`fleet rollback [ROLLOUT]`: every host back to what it ran before that rollout."""

from functools import partial

from fleet.commands.all_hosts import Operation, carry_out_on_all
from fleet.commands.engine_run import output_of
from fleet.commands.recording import journal_if_any, taking_over
from fleet.environment import Asked, World
from fleet.rollout.policy import Policy
from fleet.rollout.unbatched import decide_rollback, undoing


def rollback(world: World, asked: Asked, wanted: str | None, *, drain_timeout_s: float, cut: bool) -> int:
    """Every host is back at what it ran before the rollout; the exit code. Works with no journal at all."""
    policy = Policy(parallel=asked.parallel, drain_timeout_s=drain_timeout_s, cut=cut)
    operation = Operation("rollback", policy, undoing, partial(decide_rollback, asked.parallel))
    output = output_of(asked)
    with journal_if_any(output, asked) as journal:
        recording = partial(taking_over, journal, output, world.operator())
        newest_here = journal.rollouts(most=1) if journal is not None else ()
        known = newest_here[0].rollout if newest_here else None
        return carry_out_on_all(world, asked, output, wanted, operation, recording, known)
