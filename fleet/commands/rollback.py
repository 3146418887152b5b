"""`fleet rollback [ROLLOUT]`: return every host to the release it ran before that rollout."""

from functools import partial

from fleet.environment import CommandOptions, Environment
from fleet.errors import JournalError
from fleet.onhost.protocol import State
from fleet.rollout.policy import Policy
from fleet.rollout.rollback import decide_rollback, rollback_status, unseen_status
from fleet.runs.all_hosts import Operation, run_on_all_hosts
from fleet.runs.allow_option import parse_allow
from fleet.runs.engine_run import command_output
from fleet.runs.known_rollouts import KnownRollouts
from fleet.runs.recording import journal_or_none, rollback_lock
from fleet.ui.output import Output

SETTLED = frozenset({State.ROLLED_BACK})


def run(
    environment: Environment,
    options: CommandOptions,
    prefix: str | None,
    *,
    drain_timeout_s: float,
    cut: bool,
    allow: tuple[str, ...] = (),
) -> int:
    """Rolls all hosts of the rollout back; returns the exit code. Works without a journal. Raises `Refused`."""
    policy = Policy(parallel=options.parallel, drain_timeout_s=drain_timeout_s, cut=cut, allow=parse_allow(allow))
    operation = Operation(
        "rollback", policy, rollback_status, partial(decide_rollback, options.parallel), SETTLED, unseen_status
    )
    output = command_output(options)
    with journal_or_none(output, options) as journal:
        recording = partial(rollback_lock, journal, output, environment.operator())
        known = KnownRollouts(journal, partial(_warn, output))
        return run_on_all_hosts(environment, options, output, prefix, operation, recording, known)


def _warn(output: Output, error: JournalError) -> None:
    output.say(f"Warning: {error.message} The rollback continues from the hosts' own records.")
