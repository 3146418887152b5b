"""The kill matrix: whatever is killed in whatever step, the operator can resume and roll back, and no request is lost.

The cells that are drawn by the seed cover every row, every column and both endings, and run always; `make test-long` runs
all. `FLEET_MATRIX_SEED` draws others, `FLEET_MATRIX_PAGE` names a file for the page of what they showed, and `-k
swap/kill_old/resume` with `-m ''` plays one again. Three are drawn for hosts whose PID 1 is systemd.
"""

import os
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.lab.matrix_run import play_all
from tests.support.lab.end_state import Result
from tests.support.lab.matrix import ROWS, Cell, Ending, Fault, cells, chosen, impossible, systemd_cells
from tests.support.lab.matrix_table import commit_of, page, systemd_page

SEED = int(os.environ.get("FLEET_MATRIX_SEED", "1"))
DRAWN = chosen(SEED)
SYSTEMD = "systemd"
FEW = random.Random(SEED).sample(systemd_cells(), 3)
Played = tuple[str | None, Cell]


def test_every_cell_is_played_or_said_to_be_impossible() -> None:
    pairs = [(row.name, fault) for row in ROWS for fault in Fault]
    played = {(cell.row, cell.fault) for cell in cells()}

    assert len(cells()) == len(set(cells())) == len(played) * len(Ending)
    assert [pair for pair in pairs if (impossible(*pair) is None) is not (pair in played)] == []
    assert len(pairs) == len(ROWS) * len(Fault)


@pytest.mark.parametrize("seed", range(20))
def test_a_draw_covers_every_row_every_column_and_both_endings(seed: int) -> None:
    drawn = chosen(seed)

    assert {cell.row for cell in drawn} == {row.name for row in ROWS}
    assert {cell.fault for cell in drawn} == set(Fault)
    assert {cell.ending for cell in drawn} == set(Ending)
    assert len(drawn) <= 18


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[Played, Result]:
    """What every cell showed that this session asks for, played many at once; by kind of host."""
    asked = [found for item in request.session.items if (found := _asked(item)) is not None]
    results: dict[Played, Result] = {}
    for kind in dict.fromkeys(kind for kind, _ in asked):
        cells_of = [cell for one, cell in asked if one == kind]
        shown = play_all(cells_of, tmp_path_factory.mktemp("matrix"), f"m{os.getpid()}-{kind or 'plain'}", kind=kind)
        results |= {(kind, cell): result for cell, result in zip(cells_of, shown, strict=True)}
    where = os.environ.get("FLEET_MATRIX_PAGE")
    if where:
        _write_pages(Path(where), results)
    return results


def _write_pages(where: Path, results: Mapping[Played, Result]) -> None:
    """A page for each kind of hosts that was played."""
    commit = commit_of(Path(__file__).parent)
    plain = {cell: result for (kind, cell), result in results.items() if kind is None}
    with_systemd = {cell: result for (kind, cell), result in results.items() if kind == SYSTEMD}
    if plain:
        where.write_text(page(plain, SEED, commit))
    if with_systemd:
        where.with_stem(f"{where.stem}-systemd").write_text(systemd_page(with_systemd, SEED, commit))


def _asked(item: pytest.Item) -> Played | None:
    """The kind of host and the cell that a test of this module plays."""
    if item.path != Path(__file__) or not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return None
    found = item.callspec.params.get("cell")
    return (KIND_OF[item.originalname], found) if isinstance(found, Cell) else None


@pytest.mark.parametrize(
    "cell", [pytest.param(cell, id=str(cell), marks=() if cell in DRAWN else pytest.mark.long) for cell in cells()]
)
def test_a_fault_leaves_a_way_on_and_a_way_back(cell: Cell, played: Mapping[Played, Result]) -> None:
    assert played[None, cell].problems == []


@pytest.mark.parametrize(
    "cell",
    [pytest.param(cell, id=str(cell), marks=() if cell in FEW else pytest.mark.long) for cell in systemd_cells()],
)
def test_under_systemd_a_fault_leaves_a_way_on_and_a_way_back(cell: Cell, played: Mapping[Played, Result]) -> None:
    assert played[SYSTEMD, cell].problems == []


KIND_OF = {
    test_a_fault_leaves_a_way_on_and_a_way_back.__name__: None,
    test_under_systemd_a_fault_leaves_a_way_on_and_a_way_back.__name__: SYSTEMD,
}
"""On which kind of host a test plays its cell; `None`: on a plain one."""
