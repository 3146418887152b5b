"""The rounds of the bench: in each, every contender does every job once, and another one begins."""

import itertools
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.peers.bench_lab import BenchLab, bench_lab
from tests.bench.peers.contenders import Contender, Place
from tests.bench.peers.delay_box import delayed
from tests.bench.peers.figures import Figures, measure
from tests.bench.peers.jobs import UPLOADS, Job, Release, next_release
from tests.bench.peers.results import Row

PREPARE_S = 1200.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured: the jobs, on so many hosts, with such a round trip, so many times."""

    name: str
    hosts: int
    delay_ms: float
    rounds: int
    jobs: tuple[Job, ...]
    contenders: tuple[Contender, ...]


def rows_of(plan: Plan, peers: Path) -> Iterator[tuple[Row, ...]]:
    """Carry the plan out, with a line for each run on stdout. After each round: all rows so far."""
    done: dict[tuple[Job, str], list[Figures]] = {}
    with TemporaryDirectory(prefix="fleet-bench-") as folder, ExitStack() as stack:
        bench = Bench(plan, Path(folder), peers, stack)
        for turn in range(plan.rounds):
            for job in plan.jobs:
                for one in in_turn([one for one in plan.contenders if job in one.jobs], turn):
                    figures = bench.run(one, job)
                    done.setdefault((job, one.name), []).append(figures)
                    print(line(plan, turn, job, one.name, figures), flush=True)
            yield tuple(Row(plan.hosts, plan.delay_ms, job, name, tuple(runs)) for (job, name), runs in done.items())


def in_turn(contenders: Sequence[Contender], turn: int) -> Sequence[Contender]:
    """The contenders, each round beginning with the next one."""
    first = turn % max(len(contenders), 1)
    return (*contenders[first:], *contenders[:first])


def line(plan: Plan, turn: int, job: Job, name: str, one: Figures) -> str:
    """One run in words, for who waits."""
    cpu = f"{1000 * one.controller_cpu_s / plan.hosts:.0f} + {1000 * one.host_cpu_s / plan.hosts:.0f} ms CPU a host"
    bad = f", {one.failed:.0f} FAILED, exit code {one.exit_code:.0f}" if one.failed or one.exit_code else ""
    what = f"{plan.hosts} hosts, {plan.delay_ms:g} ms, round {turn + 1}, {job.name}, {name}"
    return f"{what}: {one.wall_s:.2f} s, {cpu}, {one.peak_mb:.0f} MB{bad}"


class Bench:
    """One lab at a time, and the version that its hosts run. A lab with a failed host is thrown away for a fresh one."""

    def __init__(self, plan: Plan, folder: Path, peers: Path, stack: ExitStack) -> None:
        self._plan, self._folder, self._peers, self._stack = plan, folder, peers, stack
        self._numbers = itertools.count()
        self._environment = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache")}
        self._begin()

    def _begin(self) -> None:
        self._there: BenchLab = self._stack.enter_context(bench_lab(self._plan.name, self._plan.hosts))
        self._stack.enter_context(delayed(self._there, self._plan.delay_ms))
        self._version = self._there.versions()[self._there.hosts[0].name]
        for one in self._plan.contenders:
            self._prepare(one.meet(self._place("meet")), self._folder / "log-meet")

    def _place(self, name: str) -> Place:
        return Place(self._there, self._folder, self._folder / f"journal-{name}.db", self._peers)

    def run(self, one: Contender, job: Job) -> Figures:
        """What it took `one` to do `job`."""
        number, before = next(self._numbers), self._version
        place = self._place(str(number))
        release = next_release(self._folder, number)
        after = release.version if job in (*UPLOADS, Job.STAGED) else before
        log = self._folder / f"log-{number}"
        self._prepare(one.prepare(job, place, release), log)
        wanted = Release(release.path, before) if job is Job.COMMITTED else release
        figures = measure(one.command(job, place, wanted), self._there, log, self._environment)
        failed = sum(version != after for version in self._there.versions().values())
        release.path.unlink()
        self._version = after
        if failed or figures.exit_code:
            self._renew(log)
        elif job is not Job.STATUS:
            self._there.forget_releases()
        if job is not Job.HELD:
            figures = replace(figures, first_s=None, last_s=None)
        return replace(figures, failed=failed)

    def _prepare(self, commands: Sequence[Sequence[str]], log: Path) -> None:
        with log.open("ab") as output:
            for argv in commands:
                subprocess.run(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **self._environment},
                    timeout=PREPARE_S,
                )

    def _renew(self, log: Path) -> None:
        print(f"  {log.read_text(errors='replace')[-2000:]}", flush=True)
        self._stack.close()
        self._begin()
