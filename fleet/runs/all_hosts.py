"""What commit and rollback share: they look at the hosts, find the rollout and its own hosts, and visit these all at once.

A rollback whose rollout is known looks at no host of its plan first: each is asked to go back at once, and says itself
what there is to undo.
"""

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
from fleet.rollout.host_status import HostStatus, Progress
from fleet.rollout.own_hosts import JournaledHosts, OwnHosts, own_hosts
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

    `begin` gives the status that the run starts with. `settled` are the states in which a host needs no visit. `at_once` gives
    the status of a run that looks at no host first; `None` where a look must come first.
    """

    command: str
    policy: Policy
    begin: Callable[[RolloutStatus, str, OwnHosts], RolloutStatus]
    decide: Decide
    settled: frozenset[State]
    at_once: Callable[[str, Sequence[str], JournaledHosts], RolloutStatus] | None = None


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
    run = _Run(environment, options, output, operation, recording, known)
    hosts = selected_hosts(options, output, needed=known.planned(prefix))
    found = known.to_undo(prefix) if operation.at_once is not None else None
    if found is None:
        return run.after_a_look(hosts, prefix)
    rollout, journaled = found
    planned = frozenset(journaled.planned)
    rest = tuple(host for host in hosts if host.name not in planned)
    back = run.at_once(tuple(host for host in hosts if host.name in planned), rollout, journaled)
    code = show_result(output, back)
    if not rest or back.interrupted:
        return code
    return max(code, run.added_since(rest, back, journaled))


@dataclass(frozen=True, slots=True)
class _Run:
    """One command's work on the hosts of a rollout."""

    environment: Environment
    options: CommandOptions
    output: Output
    operation: Operation
    recording: Recording
    known: KnownRollouts

    def after_a_look(self, hosts: tuple[Host, ...], prefix: str | None) -> int:
        """Looks at the hosts, and runs the operation on those of the rollout; returns the exit code."""
        look = look_at(self.environment, self.output, hosts, self.options, keeps=True)
        if look.interrupted:
            self.output.say(look.message)
            return look.exit_code or results.INTERRUPTED
        rollout = choose_rollout(look, prefix, self.known)
        if rollout is None:
            which = "No selected host" if self.options.limits else "No host"
            self.output.say(f"{which} has a record of a rollout. There is nothing to do.")
            return results.OK
        run = replace(self, options=replace(self.options, typed=self.options.typed.of(rollout)))
        release = _say_rollout(self.output, look, rollout, self.known)
        own = own_hosts(look, rollout, self.known.hosts(rollout))
        start = _begin(self.output, run.options, self.operation, look, rollout, own)
        run._confirm(start, own.members)
        return show_result(self.output, run._carried_out(hosts, start, release))

    def at_once(self, hosts: tuple[Host, ...], rollout: str, journaled: JournaledHosts) -> RolloutStatus:
        """Runs the operation on these hosts of the rollout's plan without a look first; returns the status at its end."""
        assert self.operation.at_once is not None
        run = replace(self, options=replace(self.options, typed=self.options.typed.of(rollout)))
        release = _say_rollout(self.output, RolloutStatus(), rollout, self.known)
        members = tuple(host.name for host in hosts)
        if not members:
            raise none_selected(rollout, run.options.typed)
        elsewhere = {name: journaled.states.get(name) for name in journaled.planned if name not in members}
        elsewhere = {name: state for name, state in elsewhere.items() if name not in journaled.never_begun}
        own = OwnHosts(members, elsewhere=elsewhere, is_journaled=True, is_whole=True)
        start = replace(self.operation.at_once(rollout, members, journaled), typed=run.options.typed)
        start = _with_lost(self.output, run.options, self.operation, start, own)
        run._confirm(start, members)
        status = run._carried_out(hosts, start, release)
        silent = frozenset(name for name in journaled.never_begun & set(members) if status.hosts[name].last.unanswered)
        for note in host_notes(OwnHosts(never_begun=silent), rollout, is_limited=False):
            self.output.say(note)
        return status

    def added_since(self, hosts: tuple[Host, ...], back: RolloutStatus, journaled: JournaledHosts) -> int:
        """Looks at the hosts that the journal's plan lacks, for those that a run of another journal has added since."""
        rollout, names = back.rollout, {host.name for host in hosts}
        look = look_at(self.environment, self.output, hosts, self.options, keeps=True)
        if look.interrupted:
            return look.exit_code or results.INTERRUPTED
        # The way back has raised each epoch by one, and marked the rollout as undone: before that, who else was at work?
        before = {name: _as_before(host, rollout) for name, host in back.hosts.items() if host.report is not None}
        whole = replace(look, hosts={**before, **look.hosts})
        own = own_hosts(whole, rollout, replace(journaled, epoch=journaled.epoch + 1))
        own = replace(own, members=tuple(name for name in own.members if name in names), elsewhere={})
        if not own.members:
            for note in host_notes(own, rollout, is_limited=bool(self.options.limits)):
                self.output.say(note)
            return results.OK
        run = replace(self, options=replace(self.options, typed=self.options.typed.of(rollout)))
        release = str(records(look)[rollout].target) if rollout in records(look) else ""
        start = _begin(self.output, run.options, self.operation, look, rollout, own)
        return show_result(self.output, run._carried_out(hosts, start, release))

    def _carried_out(self, hosts: Sequence[Host], start: RolloutStatus, release: str) -> RolloutStatus:
        """The status at the end of the run."""
        tasks = _tasks(
            self.environment, self.options, self.operation, [host for host in hosts if host.name in start.hosts]
        )
        with self.recording(start.rollout) as recorder:
            return run_engine(
                self.environment,
                self.output,
                replace(tasks, sender=recorder.sender if recorder else sender()),
                self.operation.decide,
                start,
                message=f"{VERBS[self.operation.command].lower()} {start.rollout}",
                data=run_data(self.operation.command, self.options, tasks, release),
                journal=recorder,
                needs_journal=self.operation.command != "rollback",
            )

    def _confirm(self, start: RolloutStatus, members: Sequence[str]) -> None:
        """Asks once, with the number of the rollout's hosts that the run visits."""
        visited = [start.hosts[name] for name in members]
        count = counted(sum(host.progress is not Progress.LEFT_ALONE for host in visited))
        question = f"{VERBS[self.operation.command]} rollout {start.rollout} on {count}?"
        confirm(self.environment, self.output, self.options, question)


def _as_before(host: HostStatus, rollout: str) -> HostStatus:
    """The host, which has reported, as if this command had not marked the rollout as undone there."""
    assert host.report is not None
    undone = tuple(each for each in host.report.undone if each != rollout)
    return replace(host, report=host.report._replace(undone=undone))


def _begin(
    output: Output, options: CommandOptions, operation: Operation, look: RolloutStatus, rollout: str, own: OwnHosts
) -> RolloutStatus:
    """The status that the run starts with, after a note on each host that it leaves alone. Raises `Refused`."""
    if not own.members:
        raise none_selected(rollout, options.typed)
    if operation.command != "rollback":
        lost = lost_hosts(own, operation.settled, is_limited=bool(options.limits))
        refuse_lost(rollout, lost, options.typed)
    left_alone = {*own.silent, *own.never_begun}
    output.alarm(alarms(replace(look, hosts={name: look.hosts[name] for name in left_alone})))
    return _with_lost(output, options, operation, operation.begin(look, rollout, own), own)


def _with_lost(
    output: Output, options: CommandOptions, operation: Operation, start: RolloutStatus, own: OwnHosts
) -> RolloutStatus:
    """The status, with the hosts of the rollout that the inventory lacks, after a note on each that is left alone."""
    for note in host_notes(own, start.rollout, is_limited=bool(options.limits)):
        output.say(note)
    lost = lost_hosts(own, operation.settled, is_limited=bool(options.limits))
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
