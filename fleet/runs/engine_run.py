"""A command's run of the engine: the selected hosts, the confirmation, progress and signals, the result."""

import signal
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

from rich.console import RenderableType

from fleet.engine import Engine, Journal, ProcessContinued, StopRequested
from fleet.environment import CommandOptions, Environment
from fleet.errors import Refused
from fleet.host import Host
from fleet.inventory import Password, load
from fleet.onhost.protocol import Ask
from fleet.rollout import results
from fleet.rollout.actions import Decide
from fleet.rollout.going_back import most_visits
from fleet.rollout.host_status import HostStatus
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.single_visit import decide_single_visit
from fleet.rollout.tasks import TaskBuilder
from fleet.runs.open_files import Room, make_room
from fleet.ui.alarms import alarms
from fleet.ui.output import Mode, Output, output_for
from fleet.ui.result_tables import host_errors, summary_table

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def selected_hosts(
    options: CommandOptions, output: Output | None, *, logs_in: bool = True, needed: Collection[str] | None = None
) -> tuple[Host, ...]:
    """The hosts that -i and --limit select; what fleet leaves aside of the inventory is said on `output`.

    `output` is `None` where it was said before. A command that does not log in needs none of the passwords that an
    inventory may hold. A selected host that fleet can't handle and that is not `needed` is left aside; `None` needs all.
    Raises `InventoryError`.
    """
    passwords = _passwords_given(options) if logs_in else frozenset(Password)
    hosts, notes = load(options.inventories).selection(options.limits, passwords, needed, options.typed)
    if output is not None:
        for note in notes:
            output.say(note)
    return hosts


def _passwords_given(options: CommandOptions) -> frozenset[Password]:
    connecting = options.connecting
    has_become = connecting.ask_become_pass or connecting.become_password_file is not None
    given = {Password.LOGIN: connecting.ask_password, Password.BECOME: has_become}
    return frozenset(password for password, is_given in given.items() if is_given)


def names_hosts(options: CommandOptions) -> bool:
    """Whether --limit names hosts or groups, and does not only leave some out."""
    return bool(options.limits) and load(options.inventories).names_hosts(options.limits)


def command_output(options: CommandOptions) -> Output:
    """The command's output on the process's own streams."""
    return output_for(sys.stdout, sys.stderr, options.output, options.verbose, options.log_file)


def initial_status(rollout: str, batches: Sequence[Sequence[Host]]) -> RolloutStatus:
    """The status of a run in which nothing has happened yet."""
    hosts = {host.name: HostStatus(host.name) for batch in batches for host in batch}
    return RolloutStatus(rollout, hosts, tuple(tuple(host.name for host in batch) for batch in batches))


def run_engine(
    environment: Environment,
    output: Output,
    tasks: TaskBuilder,
    decide: Decide,
    start: RolloutStatus,
    *,
    quiet: bool = False,
    message: str = "",
    data: Mapping[str, Any] | None = None,
    journal: Journal | None = None,
    needs_journal: bool = True,
    keeps: bool = False,
) -> RolloutStatus:
    """Runs the engine to its end, shows its progress, and returns its last status. Ctrl-C stops it; no visit is left.

    With `keeps` the connections stay open for the run that follows.
    """
    tasks, room = _within_limits(tasks)
    notes = (*environment.prepare(tuple(tasks.hosts.values()), tasks.connecting), room.note)
    for note in filter(None, notes):
        output.say(note)
    visits = environment.visits()
    with (
        output.progress(quiet) as (observers, heartbeat),
        ThreadPoolExecutor(room.parallel, thread_name_prefix="fleet-visit") as executor,
    ):
        engine = Engine(
            visits=visits,
            executor=executor,
            task_of=tasks.build,
            clock=environment.clock(),
            observers=observers,
            heartbeat=heartbeat,
            journal=journal,
            needs_journal=needs_journal,
        )
        stop, continued = partial(engine.inbox.put, StopRequested()), partial(engine.inbox.put, ProcessContinued())
        with nullcontext() if keeps else closing(visits), stop_on_signals(stop, continued):
            return engine.run(decide, start, message, **(data or {}))


def _within_limits(tasks: TaskBuilder) -> tuple[TaskBuilder, Room]:
    """The tasks, and the room for their visits, in as many open files as this process may have."""
    room = make_room(len(tasks.hosts), most_visits(tasks.policy.parallel), tasks.connecting.keep_open)
    return replace(tasks, connecting=replace(tasks.connecting, keep_open=room.keep_open)), room


@contextmanager
def stop_on_signals(stop: Callable[[], None], continued: Callable[[], None]) -> Iterator[None]:
    """Inside, SIGINT, SIGTERM and SIGHUP call `stop` instead of killing the process, and SIGCONT calls `continued`.

    SIGHUP stays ignored under `nohup`.
    """

    def handle(signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGCONT:
            continued()
        else:
            stop()

    is_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    handled = [number for number in STOP_SIGNALS if number is not signal.SIGHUP or not is_nohup]
    before = {number: signal.signal(number, handle) for number in (*handled, signal.SIGCONT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def look_at(
    environment: Environment, output: Output, hosts: Sequence[Host], options: CommandOptions, *, keeps: bool = False
) -> RolloutStatus:
    """Asks every host for its state; nothing is claimed and nothing is changed. `keeps`: a run follows."""
    policy = Policy(parallel=options.parallel)
    # Each host is visited once: without a run that follows there is nothing to keep a connection for.
    connecting = options.connecting if keeps else replace(options.connecting, keep_open=0)
    tasks = TaskBuilder({host.name: host for host in hosts}, environment.operator(), policy, connecting=connecting)
    decide = partial(decide_single_visit, Ask.LOOK, options.parallel)
    start = replace(initial_status("look", [hosts]), typed=options.typed)
    return run_engine(environment, output, tasks, decide, start, quiet=True, keeps=keeps)


def confirm(
    environment: Environment, output: Output, options: CommandOptions, question: str, effect: str = "changes hosts"
) -> None:
    """Returns once the operator has said yes. Raises `Refused` for another answer, and without a terminal to ask on."""
    if options.yes:
        return
    if not environment.is_terminal():
        raise Refused(
            f"This command {effect} and needs your confirmation, but there is no terminal.",
            f"Confirm with -y: {options.typed.having('yes', '-y').quoted}.",
        )
    output.err.print(f"{question} [y/N] ", end="")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused("Not confirmed. Nothing was changed.")


def show_result(output: Output, status: RolloutStatus) -> int:
    """Prints the table of hosts, their errors, and the line that says what to do now; returns the exit code."""
    parts: list[RenderableType] = [summary_table(status), host_errors(status)]
    if output.mode is not Mode.JSONL:
        for part in parts:
            output.result(part)
    output.say(status.message)
    output.alarm(alarms(status))
    return status.exit_code or results.OK
