"""A thousand random faults at random moments: no request is lost, and resume and rollback always work.

`make test-long` runs it. `FLEET_RANDOM_RUNS` says how many, `FLEET_RANDOM_SEED` draws others, and `FLEET_RANDOM_ONLY`, numbers
with commas, plays those runs of the seed again. A run's own draw does not hang on the others; which of the releases its
host runs at first, and what earlier runs left in its store, does.
"""

import os
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.support.lab.end_state import Result
from tests.support.lab.matrix import Ending, Fault, Scene
from tests.support.lab.random_faults import PLACES, Draw, draw, play_draws

SEED = int(os.environ.get("FLEET_RANDOM_SEED", "1"))
RUNS = int(os.environ.get("FLEET_RANDOM_RUNS", "1000"))
ONLY = [int(word) for word in os.environ.get("FLEET_RANDOM_ONLY", "").split(",") if word]
LEAST_STRUCK = 0.6


def replay(one: Draw) -> str:
    return f"FLEET_RANDOM_SEED={SEED} FLEET_RANDOM_ONLY={one.number} python -m pytest -m '' {Path(__file__).name}"


def test_a_run_hangs_on_its_seed_and_number_alone() -> None:
    assert [draw(7, number) for number in (3, 1)] == [draw(7, 3), draw(7, 1)]
    assert draw(7, 1) != draw(8, 1)


def test_a_thousand_draws_hold_every_fault_in_every_scene_and_place() -> None:
    drawn = [draw(SEED, number) for number in range(1000)]

    assert {(one.fault, one.moment.scene, one.ending) for one in drawn} == {
        (fault, scene, ending) for fault in Fault for scene in Scene for ending in Ending
    }
    assert {one.moment.place for one in drawn} == {*PLACES, "clock"}


@pytest.mark.long
def test_random_faults_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    draws = [draw(SEED, number) for number in ONLY or range(RUNS)]
    ended: Counter[str] = Counter()
    bad: list[str] = []
    lock = threading.Lock()

    def told(one: Draw, result: Result) -> None:
        with lock:
            ended["struck" if result.struck else "too late"] += 1
            ended["requests"] += result.requests
            ended["failed requests"] += result.failed
            ended["left without a master"] += result.is_down
            if result.problems:
                bad.append(f"{one} ({result.host})\n  " + "\n  ".join(result.problems) + f"\n  again: {replay(one)}")
                print(bad[-1], flush=True)

    play_draws(draws, tmp_path, f"r{os.getpid()}", told)

    print(f"{len(draws)} runs of seed {SEED}: {dict(ended)}; {len(bad)} went wrong")
    assert bad == []
    assert ended["struck"] >= LEAST_STRUCK * len(draws)
