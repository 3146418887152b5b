"""Commit and rollback visit all hosts of a rollout at once; the hosts themselves say which rollout is meant."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from fleet.commands.engine_run import confirm, look_at, run_engine, selected_hosts
from fleet.commands.find_rollout import choose_rollout
from fleet.commands.recording import Recorder, run_data, sender
from fleet.commands.upgrade import show_result
from fleet.environment import CommandOptions, Environment
from fleet.onhost.text import counted
from fleet.rollout import results
from fleet.rollout.actions import Decide
from fleet.rollout.from_hosts import records
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.tasks import TaskBuilder
from fleet.ui.output import Output

VERBS = {"rollback": "Roll back", "commit": "Commit"}


Recording = Callable[[str], AbstractContextManager[Recorder | None]]
"""Given the rollout that is meant: what the run writes to while it is entered."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What makes a commit a commit, and a rollback a rollback."""

    command: str
    policy: Policy
    begin: Callable[[RolloutStatus, str], RolloutStatus]
    decide: Decide


def run_on_all_hosts(
    environment: Environment,
    options: CommandOptions,
    output: Output,
    wanted: str | None,
    operation: Operation,
    recording: Recording,
    newest_here: str | None = None,
) -> int:
    hosts = selected_hosts(options)
    looked = look_at(environment, output, hosts, options)
    if looked.interrupted:
        output.say(looked.message)
        return looked.exit_code or results.INTERRUPTED
    rollout = choose_rollout(looked, wanted, newest_here)
    if rollout is None:
        output.say("No host has a record of any rollout: there is nothing to do.")
        return results.OK
    record = records(looked)[rollout]
    verb = VERBS[operation.command]
    output.say(f"{verb} rollout {rollout} of {record.operator}, which brought release {record.target[:12]}.")
    confirm(environment, output, options, f"{verb} rollout {rollout} on {counted(len(hosts))}?")
    start = replace(operation.begin(looked, rollout), batches=(tuple(host.name for host in hosts),))
    tasks = TaskBuilder(
        {host.name: host for host in hosts},
        environment.operator(),
        operation.policy,
        force=options.force,
        connecting=options.connecting,
    )
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
