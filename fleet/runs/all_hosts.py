"""What commit and rollback share: both visit all hosts at once, and find the rollout in the hosts' own records."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from fleet.environment import CommandOptions, Environment
from fleet.host import Host
from fleet.onhost.text import counted
from fleet.rollout import results
from fleet.rollout.actions import Decide
from fleet.rollout.from_hosts import records
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.tasks import TaskBuilder
from fleet.runs.engine_run import confirm, look_at, run_engine, selected_hosts, show_result
from fleet.runs.find_rollout import choose_rollout
from fleet.runs.recording import Recorder, run_data, sender
from fleet.ui.output import Output

VERBS = {"rollback": "Roll back", "commit": "Commit"}


Recording = Callable[[str], AbstractContextManager[Recorder | None]]
"""Given the rollout: a context in which the run has a recorder, or `None` if it runs without a journal."""


@dataclass(frozen=True, slots=True)
class Operation:
    """Where commit and rollback differ. `begin` gives the status that the run starts with."""

    command: str
    policy: Policy
    begin: Callable[[RolloutStatus, str], RolloutStatus]
    decide: Decide


def run_on_all_hosts(
    environment: Environment,
    options: CommandOptions,
    output: Output,
    prefix: str | None,
    operation: Operation,
    recording: Recording,
    newest_here: str | None = None,
) -> int:
    """Runs the operation on every selected host; returns the exit code. `newest_here` is the journal's newest rollout."""
    hosts = selected_hosts(options, output)
    look = look_at(environment, output, hosts, options)
    if look.interrupted:
        output.say(look.message)
        return look.exit_code or results.INTERRUPTED
    rollout = choose_rollout(look, prefix, newest_here)
    if rollout is None:
        output.say("No host has a record of a rollout. There is nothing to do.")
        return results.OK
    record = records(look)[rollout]
    verb = VERBS[operation.command]
    output.say(f"Rollout {rollout} by {record.operator}, release {record.target[:12]}.")
    confirm(environment, output, options, f"{verb} rollout {rollout} on {counted(len(hosts))}?")
    start = replace(operation.begin(look, rollout), batches=(tuple(host.name for host in hosts),))
    tasks = _tasks(environment, options, operation, hosts)
    with recording(rollout) as recorder:
        status = run_engine(
            environment,
            output,
            replace(tasks, sender=recorder.sender if recorder else sender()),
            operation.decide,
            start,
            message=f"{verb.lower()} {rollout}",
            data=run_data(operation.command, options, tasks, record.target),
            journal=recorder,
            needs_journal=operation.command != "rollback",
        )
    return show_result(output, status)


def _tasks(
    environment: Environment, options: CommandOptions, operation: Operation, hosts: Sequence[Host]
) -> TaskBuilder:
    return TaskBuilder(
        {host.name: host for host in hosts},
        environment.operator(),
        operation.policy,
        force=options.force,
        connecting=options.connecting,
    )
