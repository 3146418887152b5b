"""Runs of a random fault at a random moment: each is drawn from a seed and its number, and played like a matrix's cell.

A host is used again and again: the next run's upgrade is the proof that the last one left it well. A host on which
something went wrong is put aside, and its place taken by a fresh one.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import PID_FILE
from fleet.lab.lab import Lab
from fleet.lab.processes import this_process
from fleet.lab.releases.build import DEFAULT_BASE, make_release
from tests.lab.matrix_run import SMALL_DISKS
from tests.support.lab.controllers import Controllers
from tests.support.lab.end_state import Result
from tests.support.lab.inside import STATE_DIR, Inside
from tests.support.lab.matrix import FULL, Ending, Fault, Moment, Scene
from tests.support.lab.operator import sha256
from tests.support.lab.play import Case, Play

WORKERS = 8
HOSTS_EACH = 5
LONGEST_S = 5.0
BY_THE_CLOCK = 0.3
PLACES = ("intent", "before", "effect", "pause", "after")
STEPS = {
    Scene.UPGRADE: ("stage", "swap", "launch", "verify", "drain", "retire", "sweep"),
    Scene.COMMIT: ("retire", "sweep"),
    Scene.ROLLBACK: ("revive", "dismiss", "restore"),
}


@dataclass(frozen=True, slots=True)
class Draw:
    """One run. `is_small`: its host has small disks, which are lost when it is switched off."""

    number: int
    moment: Moment
    fault: Fault
    ending: Ending
    settle_s: float
    commit: str
    is_small: bool

    def __str__(self) -> str:
        at = self.moment
        when = f"after {at.after_s:.2f} s" if at.place == "clock" else f"{at.step}/{at.place}"
        return f"run {self.number}: {self.fault.value} in {at.scene.value} at {when}, then {self.ending.value}"


def draw(seed: int, number: int) -> Draw:
    """The run of this number: the same for the same seed, whatever other runs there are."""
    dice = random.Random(f"{seed}/{number}")
    scene = dice.choice(list(Scene))
    step, place = dice.choice(STEPS[scene]), dice.choice(PLACES)
    after_s = round(dice.uniform(0.0, LONGEST_S), 3)
    if dice.random() < BY_THE_CLOCK:
        moment = Moment("clock", scene, None, "clock", None, after_s)
    else:
        moment = Moment(step, scene, step, place, None)
    fault, ending = dice.choice(list(Fault)), dice.choice(list(Ending))
    settle_s = dice.choice((0.0, 0.1, 0.5))
    commit = dice.choice(("end", "batch", "never"))
    is_small = fault in FULL or (fault is not Fault.POWER and dice.random() < 0.3)
    return Draw(number, moment, fault, ending, settle_s, commit, is_small)


def play_draws(draws: Sequence[Draw], folder: Path, name: str, on_result: Callable[[Draw, Result], None]) -> None:
    """Plays every run, many at once; `on_result` is called at the end of each."""
    releases = [DEFAULT_BASE]
    releases += [make_release("new", folder / f"r{digit}", version=f"1.22.{digit}") for digit in (7, 8, 9)]
    queues = _queues(draws)
    small = [is_small for is_small, _ in queues for _ in range(HOSTS_EACH)]
    kinds = {f"lab-{number:03}": SMALL_DISKS for number, is_small in enumerate(small, 1) if is_small}
    lab = Lab.up(name, len(small), kinds, owner=this_process())
    try:
        with Controllers(folder) as controllers, ThreadPoolExecutor(len(queues)) as pool:
            hosts = [lab.hosts[first : first + HOSTS_EACH] for first in range(0, len(small), HOSTS_EACH)]
            workers = [_Worker(lab, own, controllers, releases, on_result) for own in hosts]
            list(pool.map(_Worker.play, workers, (queue for _, queue in queues)))
    finally:
        lab.down()


def _queues(draws: Sequence[Draw]) -> list[tuple[bool, list[Draw]]]:
    """The runs of each worker, and whether its hosts have small disks; no worker without a run."""
    found = []
    for is_small in (False, True):
        own = [one for one in draws if one.is_small is is_small]
        share = max(1, round(WORKERS * len(own) / max(1, len(draws))))
        found += [(is_small, own[first::share]) for first in range(share) if own[first::share]]
    return found


class _Worker:
    """Plays its runs one after the other, on its own hosts."""

    def __init__(
        self,
        lab: Lab,
        hosts: Iterable[LabHost],
        controllers: Controllers,
        releases: Sequence[Path],
        on_result: Callable[[Draw, Result], None],
    ) -> None:
        self._lab = lab
        self._hosts = list(hosts)
        self._controllers = controllers
        self._releases = {sha256(path): path for path in releases}
        self._on_result = on_result

    def play(self, draws: Sequence[Draw]) -> None:
        for one in draws:
            if not self._hosts:
                self._on_result(one, Result(str(one), "", ["not played: every host of this worker was put aside"]))
                continue
            result = self._play(one, self._hosts[0])
            if result.problems:
                self._hosts.pop(0)
            self._on_result(one, result)

    def _play(self, one: Draw, host: LabHost) -> Result:
        inside = Inside(host)
        base = self._releases[str(inside.masters()[0].image_sha256)]
        others = [path for path in self._releases.values() if path != base]
        target, other = others[one.number % 3], others[(one.number + 1) % 3]
        # So that there is something to stage, and an upload.
        rmtree(inside.path(f"{STATE_DIR}/releases/{sha256(target)}"), ignore_errors=True)
        case = Case(
            name=f"run/{one.number}",
            moment=one.moment,
            fault=one.fault,
            ending=one.ending,
            base=base,
            target=target,
            other=other,
            is_strict=False,
            settle_s=one.settle_s,
            commit=one.commit,
        )
        result = Play(case, self._lab, host, self._controllers).run()
        if result.is_down:
            host.sh(f"rm -f {PID_FILE}.oldbin")  # the next run may end before there is an upgrade that sweeps it
        return result
