"""`fleet commit [ROLLOUT]`: retire the held old masters of a rollout."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from fleet.environment import CommandOptions, Environment
from fleet.journal.journal import Journal
from fleet.onhost.protocol import State
from fleet.rollout.commit import commit_status, decide_commit
from fleet.rollout.policy import CommitWhen, Policy
from fleet.runs.all_hosts import Operation, run_on_all_hosts
from fleet.runs.engine_run import command_output
from fleet.runs.known_rollouts import KnownRollouts
from fleet.runs.lease_option import LEASE_S
from fleet.runs.recording import Recorder, journal_lock
from fleet.runs.within_option import check_within

SETTLED = frozenset({State.COMMITTED, State.ROLLED_BACK})


def policy_of(options: CommandOptions, within_s: float | None, *, drain_timeout_s: float, cut: bool) -> Policy:
    """The options as a policy. Hosts retire their old masters by themselves within `within_s`; `None`: fleet waits for them.

    Raises `Refused`.
    """
    policy = Policy(parallel=options.parallel, drain_timeout_s=drain_timeout_s, cut=cut, lease_s=LEASE_S)
    if within_s is None:
        return policy
    return replace(policy, commit=CommitWhen.WHEN_DRAINED, within_s=check_within(within_s))


def run(environment: Environment, options: CommandOptions, prefix: str | None, policy: Policy) -> int:
    """Retires the old masters on all hosts of the rollout; returns the exit code."""
    operation = Operation("commit", policy, commit_status, partial(decide_commit, policy), SETTLED)
    output = command_output(options)
    # Look at the hosts under the lock, so that no other run of this journal changes them after the look.
    with (
        Journal.open(options.journal) as journal,
        journal_lock(journal, output, options, environment.operator(), "commit", prefix or "") as recorder,
    ):
        recording, known = partial(_name_lock, recorder), KnownRollouts(journal)
        return run_on_all_hosts(environment, options, output, prefix, operation, recording, known)


@contextmanager
def _name_lock(recorder: Recorder, rollout: str) -> Iterator[Recorder]:
    recorder.set_rollout(rollout)
    yield recorder
