"""What commit and rollback share: they look at the hosts, find the rollout and its own hosts, and visit these all at once."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from fleet.environment import CommandOptions, Environment
from fleet.host import Host
from fleet.onhost.protocol import Ask, State
from fleet.onhost.text import counted
from fleet.rollout import results
from fleet.rollout.actions import Decide
from fleet.rollout.from_hosts import not_in_inventory, records
from fleet.rollout.host_status import Progress
from fleet.rollout.own_hosts import OwnHosts, own_hosts
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.tasks import TaskBuilder
from fleet.runs.engine_run import confirm, look_at, run_engine, selected_hosts, show_result
from fleet.runs.find_rollout import choose_rollout
from fleet.runs.known_rollouts import KnownRollouts
from fleet.runs.recording import Recorder, run_data, sender
from fleet.runs.rollout_hosts import host_notes, lost_hosts, none_selected, refuse_lost, without_lost
from fleet.ui.alarms import alarms
from fleet.ui.output import Output

VERBS = {"rollback": "Roll back", "commit": "Commit"}


Recording = Callable[[str], AbstractContextManager[Recorder | None]]
"""Given the rollout: a context in which the run has a recorder, or `None` if it runs without a journal."""


@dataclass(frozen=True, slots=True)
class Operation:
    """Where commit and rollback differ.

    `begin` gives the status that the run starts with. `settled` are the states in which a host needs no visit.
    """

    command: str
    policy: Policy
    begin: Callable[[RolloutStatus, str, OwnHosts], RolloutStatus]
    decide: Decide
    settled: frozenset[State]


def run_on_all_hosts(
    environment: Environment,
    options: CommandOptions,
    output: Output,
    prefix: str | None,
    operation: Operation,
    recording: Recording,
    known: KnownRollouts,
) -> int:
    """Runs the operation on every selected host of the rollout; returns the exit code."""
    hosts = selected_hosts(options, output, needed=known.planned(prefix))
    look = look_at(environment, output, hosts, options, keeps=True)
    if look.interrupted:
        output.say(look.message)
        return look.exit_code or results.INTERRUPTED
    rollout = choose_rollout(look, prefix, known)
    if rollout is None:
        which = "No selected host" if options.limits else "No host"
        output.say(f"{which} has a record of a rollout. There is nothing to do.")
        return results.OK
    options = replace(options, typed=options.typed.of(rollout))
    release = _say_rollout(output, look, rollout, known)
    own = own_hosts(look, rollout, known.hosts(rollout))
    start = _begin(output, options, operation, look, rollout, own)
    _confirm(environment, output, options, operation, start, own)
    tasks = _tasks(environment, options, operation, [host for host in hosts if host.name in start.hosts])
    with recording(rollout) as recorder:
        status = run_engine(
            environment,
            output,
            replace(tasks, sender=recorder.sender if recorder else sender()),
            operation.decide,
            start,
            message=f"{VERBS[operation.command].lower()} {rollout}",
            data=run_data(operation.command, options, tasks, release),
            journal=recorder,
            needs_journal=operation.command != "rollback",
        )
    return show_result(output, status)


def _begin(
    output: Output, options: CommandOptions, operation: Operation, look: RolloutStatus, rollout: str, own: OwnHosts
) -> RolloutStatus:
    """The status that the run starts with, after a note on each host that it leaves alone. Raises `Refused`."""
    if not own.members:
        raise none_selected(rollout, options.typed)
    lost = lost_hosts(own, operation.settled, is_limited=bool(options.limits))
    if operation.command != "rollback":
        refuse_lost(rollout, lost, options.typed)
    for note in host_notes(own, rollout, is_limited=bool(options.limits)):
        output.say(note)
    left_alone = {*own.silent, *own.never_begun}
    output.alarm(alarms(replace(look, hosts={name: look.hosts[name] for name in left_alone})))
    start = operation.begin(look, rollout, own)
    remedy = f"Give the inventory that has it (-i), or leave it out: {without_lost(options.typed)}."
    missing = {name: not_in_inventory(name, Ask.ROLLBACK, remedy) for name in lost}
    hosts = {**start.hosts, **missing}
    return replace(start, hosts=hosts, batches=(tuple(hosts),))


def _say_rollout(output: Output, look: RolloutStatus, rollout: str, known: KnownRollouts) -> str:
    """Says which rollout it is; returns the hash of its release, or nothing if neither hosts nor journal know it."""
    record, summary = records(look).get(rollout), known.summary(rollout)
    operator = record.operator if record else summary.fact("operator") if summary else "?"
    release = record.target if record else summary.fact("release") if summary else ""
    output.say(f"Rollout {rollout} by {operator}, release {release[:12]}.")
    return str(release)


def _confirm(
    environment: Environment,
    output: Output,
    options: CommandOptions,
    operation: Operation,
    start: RolloutStatus,
    own: OwnHosts,
) -> None:
    """Asks once, with the number of the rollout's hosts that the run visits."""
    members = [start.hosts[name] for name in own.members]
    count = counted(sum(host.progress is not Progress.LEFT_ALONE for host in members))
    confirm(environment, output, options, f"{VERBS[operation.command]} rollout {start.rollout} on {count}?")


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
