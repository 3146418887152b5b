"""The controller without a network: what an upgrade of N hosts costs that answer at once, as one host answered before.

The whole engine runs: decisions, threads, the fold, a journal on disk, and the live view. A visit only replays the events
and the report that a pretend host gave once. Each N runs in a process of its own: `python -m tests.bench.engine [N …]`.
"""

import resource
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from fleet.clock import SteadyClock
from fleet.engine import Engine, Visits
from fleet.events import Event, EventType, Sink
from fleet.journal.journal import Journal
from fleet.onhost.protocol import Ask, Outcome, Step
from fleet.rollout.actions import Action
from fleet.rollout.host_status import HostStatus
from fleet.rollout.policy import Policy
from fleet.rollout.rollout_status import RolloutStatus
from fleet.rollout.tasks import Target, TaskBuilder
from fleet.rollout.upgrade import decide
from fleet.runs.recording import Recorder
from fleet.task import HostOutcome, HostTask
from fleet.ui.output import Mode, Output
from tests.support.pretend.visits import NEW, a_fleet, a_host
from tests.support.rollout.playing import ROLLOUT, play

HOSTS = (100, 300, 1000, 2000, 5000)
POLICY = Policy(bake_s=0.0, settle_s=0.0)
STEPS = {
    Ask.STAGE: (Step.STAGE,),
    Ask.UPGRADE: (Step.SWAP, Step.LAUNCH, Step.VERIFY, Step.DRAIN),
    Ask.COMMIT: (Step.RETIRE, Step.SWEEP),
}
"""The steps that a host tells of."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took: CPU seconds of all threads, calls of `decide`, events, MB above the start."""

    hosts: int
    cpu_s: float
    wall_s: float
    decided: int
    decide_s: float
    events: int
    memory_mb: float


def replayed() -> dict[Ask, HostOutcome]:
    """What one pretend host answers to each request of an upgrade."""
    fleet, found = a_fleet(1), {}
    visit = fleet.visit

    def recording(task: HostTask, sink: Sink) -> HostOutcome:
        found[task.request.ask] = visit(task, sink)
        return found[task.request.ask]

    fleet.visit = recording  # type: ignore[method-assign]
    play(fleet, POLICY)
    return found


def answering(answers: dict[Ask, HostOutcome], task: HostTask, sink: Sink) -> HostOutcome:
    """A visit that takes no time."""
    at = datetime.fromisoformat("2026-11-23T10:00:00+00:00")
    for step in STEPS.get(task.request.ask, ()):
        started = Event(at, ROLLOUT, EventType.STEP_STARTED, task.host.name, task.batch, step)
        sink(started)
        sink(replace(started, type=EventType.STEP_ENDED, outcome=Outcome.DONE, took_s=0.1))
    answer, name = answers[task.request.ask], task.host.name
    assert answer.report is not None
    return replace(answer, host=name, report=answer.report._replace(machine_id=name))


def run(hosts: int, batches: int = 1) -> Cost:
    """One upgrade of so many hosts, in this process."""
    answers = replayed()
    names = [f"web-{number:04}.example.net" for number in range(hosts)]
    size = -(-hosts // batches)
    start = RolloutStatus(
        ROLLOUT,
        {name: HostStatus(name) for name in names},
        tuple(tuple(names[begin : begin + size]) for begin in range(0, hosts, size)),
    )
    tasks = TaskBuilder({name: a_host(name) for name in names}, "alice@desk", POLICY, Target(NEW, 1000, "/nginx"))
    events, calls = Counter[EventType](), [0, 0.0]

    def counted(status: RolloutStatus, now: datetime) -> tuple[Action, ...]:
        began_s = time.thread_time()
        found = decide(POLICY, status, now)
        calls[0] += 1
        calls[1] += time.thread_time() - began_s
        return found

    def count(event: Event, _: RolloutStatus) -> None:
        events[event.type] += 1

    screen = Console(file=StringIO(), force_terminal=True, width=200, height=50)
    peak_kb, began_s, wall_s = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), time.monotonic()
    with (
        TemporaryDirectory(prefix="fleet-bench-") as folder,
        Journal.open(str(Path(folder) / "journal.sqlite")) as journal,
        ThreadPoolExecutor(POLICY.parallel) as executor,
        Output(screen, screen, Mode.LIVE).progress() as (observers, heartbeat),
    ):
        engine = Engine(
            visits=Visits(partial(answering, answers), lambda rollout: None, lambda: None),
            executor=executor,
            task_of=tasks.build,
            clock=SteadyClock(),
            observers=[*observers, count],
            heartbeat=heartbeat,
            journal=Recorder(journal, "bench", journal.lock("alice@desk", "upgrade")),
        )
        status = engine.run(counted, start)
    assert (status.exit_code, status.counts["done"]) == (0, hosts), status.message
    used_s = time.process_time() - began_s
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kb) / 1024
    return Cost(hosts, used_s, time.monotonic() - wall_s, int(calls[0]), calls[1], events.total(), grown_mb)


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:]] or HOSTS
    print(
        f"{'hosts':>6}{'events':>8}{'CPU s':>8}{'ms/host':>9}{'us/event':>10}{'decides':>9}{'us each':>9}{'wall s':>8}{'MB':>6}"
    )
    for hosts in numbers:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as own_process:
            cost = own_process.submit(run, hosts).result()
        each = f"{1e3 * cost.cpu_s / hosts:>9.2f}{1e6 * cost.cpu_s / cost.events:>10.0f}"
        decided = f"{cost.decided:>9}{1e6 * cost.decide_s / cost.decided:>9.0f}"
        print(
            f"{hosts:>6}{cost.events:>8}{cost.cpu_s:>8.2f}{each}{decided}{cost.wall_s:>8.1f}{cost.memory_mb:>6.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
