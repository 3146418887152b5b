"""Plays cells, many at once: one lab with a host for each, a few of them at work at a time."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.lab.lab import Lab
from fleet.lab.processes import this_process
from fleet.lab.releases.build import DEFAULT_BASE, make_release
from tests.support.lab.controllers import Controllers
from tests.support.lab.end_state import Result
from tests.support.lab.matrix import FULL, Cell, moment
from tests.support.lab.play import Case, Play

AT_ONCE = 8
MOST_HOSTS = 48
MOST_SYSTEMD_HOSTS = 12
BIG_BYTES = 6 << 20
SETTLE_S, LONG_SETTLE_S = 0.3, 5.0
LONG_BAKE_S = 30.0
SMALL_DISKS = "small-disks"


@dataclass(frozen=True, slots=True)
class Releases:
    """What the cells bring. `big` takes long enough to be caught in its upload."""

    target: Path
    big: Path
    following: Path
    other: Path


def make_releases(folder: Path) -> Releases:
    """All that the cells bring, made once."""
    return Releases(
        target=make_release("new", folder / "target", version="1.22.7"),
        big=make_release("new", folder / "big", version="1.22.7", size_bytes=BIG_BYTES),
        following=make_release("new", folder / "following", version="1.22.8"),
        other=make_release("new", folder / "other", version="1.22.9"),
    )


def case(cell: Cell, releases: Releases) -> Case:
    """The cell as it is played."""
    at = moment(cell.row, cell.fault)
    return Case(
        name=str(cell),
        moment=at,
        fault=cell.fault,
        ending=cell.ending,
        base=DEFAULT_BASE,
        target=releases.big if at.place == "upload" else releases.target,
        other=releases.other,
        following=releases.following,
        # On a busy machine one look takes longer than a brisk settle, and there would be no pause to stop in.
        settle_s=LONG_SETTLE_S if at.place == "pause" else SETTLE_S,
        # The host waits for its next request for as long as its batch bakes.
        bake_s=LONG_BAKE_S if at.place == "idle" else 0.0,
    )


def play_all(
    cells: Sequence[Cell],
    folder: Path,
    name: str,
    on_result: Callable[[Result], None] = lambda _: None,
    kind: str | None = None,
) -> tuple[Result, ...]:
    """What every cell showed, in their order: on plain hosts, or on hosts of this kind."""
    most = MOST_HOSTS if kind is None else MOST_SYSTEMD_HOSTS
    releases = make_releases(folder)
    found: list[Result] = []
    with Controllers(folder) as controllers:
        for number in range(0, len(cells), most):
            part = cells[number : number + most]
            with _lab(f"{name}-{number}", part, kind) as lab:
                found += _play(part, lab, controllers, releases, on_result)
    return tuple(found)


@contextmanager
def _lab(name: str, cells: Sequence[Cell], kind: str | None) -> Iterator[Lab]:
    wanted = {f"lab-{number:03}": SMALL_DISKS if cell.fault in FULL else kind for number, cell in enumerate(cells, 1)}
    kinds = {host: one for host, one in wanted.items() if one is not None}
    lab = Lab.up(name, len(cells), kinds, owner=this_process())
    try:
        yield lab
    finally:
        lab.down()


def _play(
    cells: Sequence[Cell], lab: Lab, controllers: Controllers, releases: Releases, on_result: Callable[[Result], None]
) -> list[Result]:
    def one(number: int) -> Result:
        result = Play(case(cells[number], releases), lab, lab.hosts[number], controllers).run()
        on_result(result)
        return result

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(len(cells))))
