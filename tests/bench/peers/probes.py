"""Figures that are no job of all hosts: the start of `fleet --help`, one more look in a bake, and a rollback by the run
that holds the hosts."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fleet.lab.hosts import nginx
from fleet.lab.processes import wait_until
from tests.bench.peers.bench_lab import BenchLab, bench_lab
from tests.bench.peers.control_group import ControlGroup
from tests.bench.peers.figures import LIMIT_S
from tests.bench.peers.jobs import next_release
from tests.bench.peers.results import Probe

HOSTS = 10
BAKE_S = 20
SETTLED_S = 6.0
"""The first looks of a bake may begin a conversation; the further ones are measured."""


def all_probes(name: str, fleet: str, rounds: int) -> tuple[Probe, ...]:
    """Every probe, so many times each."""
    with TemporaryDirectory(prefix="fleet-bench-") as folder, bench_lab(name, HOSTS) as there:
        runs = [a_bake(there, fleet, Path(folder), number) for number in range(2 * rounds)]
    looks_ms, backs_s = runs[0::2], runs[1::2]
    return (
        start_probe(fleet, rounds),
        Probe("one more look in a bake: host CPU", "", "ms", tuple(looks_ms)),
        Probe("rollback by the run that holds 10 hosts: wall", "", "s", tuple(backs_s)),
    )


def start_probe(fleet: str, rounds: int) -> Probe:
    """CPU of `fleet --help`, beside that of importing the library that prints it."""
    pairs = [
        (cpu_ms([fleet, "--help"]), cpu_ms([sys.executable, "-c", "import rich_click"])) for _ in range(rounds + 1)
    ][1:]
    return Probe(
        "fleet --help: CPU",
        'python -c "import rich_click"',
        "ms",
        tuple(ours for ours, _ in pairs),
        tuple(theirs for _, theirs in pairs),
    )


def cpu_ms(argv: list[str]) -> float:
    """CPU milliseconds of a command with all its children."""
    group = ControlGroup.of_command()
    group.make()
    try:
        inside, groups = group.enter(argv)
        subprocess.run(inside, env={**os.environ, **groups}, stdout=subprocess.DEVNULL, check=True)
        return 1000 * group.cpu_s()
    finally:
        group.remove()


def a_bake(there: BenchLab, fleet: str, folder: Path, number: int) -> float:
    """An upgrade that is watched. Even numbers pass, and give the CPU ms of one look; of odd ones a host fails meanwhile,
    and they give the seconds from the decision to go back until all hosts are back."""
    release = next_release(folder, number)
    state = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache")}
    how = "--yes --batches 100% --settle 0s --rehearse off --output jsonl".split()
    argv = [fleet, "upgrade", str(release.path), "-i", str(there.lab.inventory), *how, "--bake", f"{BAKE_S}s"]
    with following(argv, state) as events:
        return look_ms(events, there) if number % 2 == 0 else back_s(events, there)


@contextmanager
def following(argv: list[str], environment: dict[str, str]) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of a rollout while it runs; it is ended when the caller is done with them."""
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env={**os.environ, **environment}, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield (json.loads(text) for text in process.stdout)
            process.wait(LIMIT_S)
        finally:
            process.kill()


def look_ms(events: Iterator[dict[str, Any]], there: BenchLab) -> float:
    """Host CPU of a look, from some time after the batch closed to the gate's verdict."""
    closed_at = used_s = looks = 0.0
    found = 0.0
    for event in events:
        if event["type"] == "batch_closed":
            closed_at = time.monotonic()
        elif event["type"] == "gate_judged":
            found = 1000 * (there.group.cpu_s() - used_s) / max(looks, 1)
        elif event["type"] == "visit_ended" and closed_at:
            if time.monotonic() - closed_at < SETTLED_S:
                used_s, looks = there.group.cpu_s(), 0
            else:
                looks += 1
    return found


def back_s(events: Iterator[dict[str, Any]], there: BenchLab) -> float:
    """Seconds from the event that the hosts go back until none is held. A host fails because its new master is killed."""
    began_s = took_s = 0.0
    for event in events:
        if event["type"] == "batch_closed":
            there.hosts[0].sh(f"kill -KILL $(cat {nginx.PID_FILE})")
        elif event["type"] == "rollback_started" and not began_s:
            began_s = time.monotonic()
            wait_until(lambda: not there.held(), within_s=120)
            took_s = time.monotonic() - began_s
    return took_s
