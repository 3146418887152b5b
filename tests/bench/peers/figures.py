"""What one run of a command took: wall, CPU of both ends, memory, bytes; and medians and ratios of several runs."""

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tests.bench.peers.bench_lab import BenchLab
from tests.bench.peers.control_group import ControlGroup
from tests.support.places import ROOT

SAMPLE_S = 0.05
AFTERWARDS_S = 0.5
"""What a command leaves behind on the hosts counts for so long."""
LIMIT_S = 1200.0


@dataclass(frozen=True, slots=True)
class Figures:
    """One run on all hosts. `first_s` and `last_s` are when the first and the last held host was back, if any was held.

    `failed` hosts don't run the version that they should.
    """

    wall_s: float
    controller_cpu_s: float
    host_cpu_s: float
    peak_mb: float
    wire_bytes: float
    first_s: float | None = None
    last_s: float | None = None
    failed: float = 0
    exit_code: float = 0


def measure(argv: Sequence[str], there: BenchLab, log: Path, environment: Mapping[str, str]) -> Figures:
    """Run a command to its end, in a control group of its own, and end what it leaves behind here.

    Its output goes to `log`. Raises `subprocess.TimeoutExpired`.
    """
    group = ControlGroup.of_command()
    group.make()
    inside, groups = group.enter(argv)
    try:
        before_cpu_s, before_bytes = there.group.cpu_s(), there.wire_bytes()
        with log.open("ab") as output:
            began_s = time.monotonic()
            with Sampler(group, there, began_s) as sampler:
                surroundings = {**os.environ, **environment, **groups}
                process = subprocess.Popen(
                    inside, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=surroundings, cwd=ROOT
                )
                exit_code = process.wait(LIMIT_S)
                wall_s = time.monotonic() - began_s
        time.sleep(AFTERWARDS_S)
        return Figures(
            wall_s=wall_s,
            controller_cpu_s=group.cpu_s(),
            host_cpu_s=there.group.cpu_s() - before_cpu_s,
            peak_mb=sampler.peak_mb,
            wire_bytes=there.wire_bytes() - before_bytes,
            first_s=sampler.first_s,
            last_s=sampler.last_s,
            exit_code=exit_code,
        )
    finally:
        group.end()
        group.remove()


class Sampler:
    """Looks at the group's memory, and at how many hosts are still held, while a command runs."""

    def __init__(self, group: ControlGroup, there: BenchLab, began_s: float) -> None:
        self.peak_mb = 0.0
        self.first_s: float | None = None
        self.last_s: float | None = None
        self._group, self._there, self._began_s = group, there, began_s
        self._at_first = there.held()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            self._look()
        self._look()

    def _look(self) -> None:
        self.peak_mb = max(self.peak_mb, self._group.memory_mb())
        if not self._at_first or self.last_s is not None:
            return
        held, now_s = self._there.held(), time.monotonic() - self._began_s
        if held < self._at_first and self.first_s is None:
            self.first_s = now_s
        if not held:
            self.last_s = now_s


def median(runs: Sequence[Figures]) -> Figures:
    """The median of each figure alone."""
    every = {field.name: [getattr(run, field.name) for run in runs] for field in fields(Figures)}
    return Figures(**{name: _median(values) for name, values in every.items()})


def _median(values: Sequence[float | None]) -> Any:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def ratio(ours: Sequence[Figures], theirs: Sequence[Figures], name: str) -> float | None:
    """The median of the ratios of this figure, each of two runs of one round; None without any."""
    pairs = [(getattr(one, name), getattr(other, name)) for one, other in zip(ours, theirs, strict=False)]
    ratios = [one / other for one, other in pairs if one is not None and other]
    return statistics.median(ratios) if ratios else None
