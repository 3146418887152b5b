"""nginx's unit in the hands of others: on every kind of systemd host, whatever is done to it, in whatever state fleet left it.

`make test` plays one cell on every kind: held, reloaded, a restart that the guard refuses, taken back, reloaded again.
`make test-long` plays all of them; `FLEET_UNIT_PAGE` names a file for the page of what they showed.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.lab.lab import Lab
from tests.lab.conftest import MakeLab
from tests.support.lab.matrix_table import commit_of
from tests.support.lab.operator import fleet
from tests.support.lab.unit_cells import ACTIONS, MANNERS, REFUSED, Action, Cell, State, cells
from tests.support.lab.unit_outsider import Packages, keep
from tests.support.lab.unit_page import control_of, page
from tests.support.lab.unit_round import Round
from tests.support.lab.unit_shown import Main, Shown, problems

QUICK = Cell(State.RELOADED, Action.RESTART)
Results = Mapping[tuple[Cell, str], Shown]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    return Packages.made(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def hosts(request: pytest.FixtureRequest, make_lab: MakeLab, packages: Packages) -> Lab:
    """One host of each kind that this session's tests ask for."""
    asked = {kind for _, kind in asked_for(request.session.items)} | set(REFUSED)
    kinds = [kind for kind in (*MANNERS, *REFUSED) if kind in asked]
    lab = make_lab(len(kinds), {f"lab-{number:03}": kind for number, kind in enumerate(kinds, 1)})
    for host in lab.hosts:
        keep(host, packages)
    return lab


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest, hosts: Lab, packages: Packages, release: Path) -> Results:
    """What each cell that this session asks for showed, and each control."""
    wanted = asked_for(request.session.items)
    results: dict[tuple[Cell, str], Shown] = {}
    for cell in cells():
        mine = [host for host in hosts.hosts if host.kind in MANNERS and (cell, host.kind) in wanted]
        if mine:
            results |= {(cell, shown.kind): shown for shown in Round(cell, hosts, mine, release, packages).play()}
    where = os.environ.get("FLEET_UNIT_PAGE")
    if where:
        Path(where).write_text(page(results, commit_of(Path(__file__).parent)))
    return results


def asked_for(items: Sequence[pytest.Item]) -> set[tuple[Cell, str]]:
    """The cells of this session's tests, and the controls that the long ones need."""
    found: set[tuple[Cell, str]] = set()
    for item in items:
        if item.path != Path(__file__) or not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
            continue
        cell, kind = item.callspec.params.get("cell"), item.callspec.params.get("kind")
        if isinstance(cell, Cell) and isinstance(kind, str):
            found.add((cell, kind))
            if not is_quick(cell, kind) and cell.action in ACTIONS[State.UNTOUCHED]:
                found.add((Cell(State.UNTOUCHED, cell.action), kind))
    return found


def is_quick(cell: Cell, kind: str) -> bool:
    """Whether `make test` plays it. Where nothing guards the unit, the control would have to be played, too."""
    return cell == QUICK and MANNERS[kind].guards


def marked(cell: Cell, kind: str) -> Any:
    return pytest.param(cell, kind, id=f"{cell}-{kind}", marks=() if is_quick(cell, kind) else pytest.mark.long)


@pytest.mark.parametrize(("cell", "kind"), [marked(cell, kind) for kind in MANNERS for cell in cells(kind)])
def test_no_outsider_breaks_what_fleet_has_left(cell: Cell, kind: str, played: Results) -> None:
    assert problems(played[cell, kind], control_of(played, cell, kind)) == []


@pytest.mark.parametrize("kind", REFUSED)
def test_a_host_that_cannot_be_upgraded_is_refused_before_anything_is_changed(
    kind: str, hosts: Lab, release: Path
) -> None:
    host = next(host for host in hosts.hosts if host.kind == kind)
    before = host.sh(
        "cat /run/nginx.pid; systemctl show nginx -p MainPID,ActiveState; ls -Al --full-time /usr/sbin/nginx"
    )

    ran = fleet(hosts, "upgrade", str(release), "-y", "-l", host.name, "--output", "jsonl")

    assert ran.code == 2, ran.said
    assert REFUSED[kind] in {one.get("reason") for one in ran.events}, ran.said
    assert (
        host.sh("cat /run/nginx.pid; systemctl show nginx -p MainPID,ActiveState; ls -Al --full-time /usr/sbin/nginx")
        == before
    )


SOUND = Shown("systemd", Cell(State.HELD, Action.RESTART), code=1, main=Main.OLD, active="active", masters=2)
SOUND.serves, SOUND.phase, SOUND.guard, SOUND.ended = True, "TRIAL", True, "OLD"
STOPPED = Shown("systemd", Cell(State.UNTOUCHED, Action.STOP), lost=90, active="inactive", phase="DOWN")
BACK = replace(STOPPED, cell=Cell(State.BACK, Action.STOP))


@pytest.mark.parametrize(
    ("shown", "control", "said"),
    [
        (SOUND, None, []),
        (BACK, STOPPED, []),
        (replace(SOUND, main=Main.GONE), None, ["MainPID is a process that has ended"]),
        (replace(SOUND, active="failed"), None, ["nginx lives, and the unit is failed"]),
        (replace(SOUND, code=0), None, ["systemd did not refuse"]),
        (replace(SOUND, masters=1), None, ["1 masters are left"]),
        (replace(SOUND, lost=2, asked=90), None, ["2 of 90 requests lost"]),
        (replace(SOUND, before=1), None, ["1 requests lost before the action"]),
        (replace(SOUND, after=1), None, ["1 requests lost on the way back"]),
        (replace(SOUND, serves=False), None, ["nginx does not serve"]),
        (replace(SOUND, phase="NEW", guard=False), None, ["status says NEW, not TRIAL"]),
        (replace(SOUND, guard=False), None, ["status says of no guard"]),
        (replace(SOUND, faults=["the guard is left"]), None, ["the guard is left"]),
        (replace(BACK, guard=True), STOPPED, ["the guard is still there"]),
        (replace(BACK, code=1, said="refused"), STOPPED, ["it ended 1 (refused), without fleet 0"]),
        (replace(BACK, active="failed"), STOPPED, ["the unit is failed, without fleet inactive"]),
        (replace(BACK, restarts=1), STOPPED, ["systemd started nginx again 1 times, without fleet 0"]),
        (replace(BACK, cut=1), STOPPED, ["1 downloads cut, without fleet none"]),
        (replace(BACK, asked=9), replace(STOPPED, lost=0), ["90 of 9 requests lost, without fleet none"]),
        (replace(BACK), replace(STOPPED, serves=True), ["nginx does not serve, without fleet the contrary"]),
    ],
)
def test_a_broken_rule_is_said(shown: Shown, control: Shown | None, said: list[str]) -> None:
    assert problems(shown, control) == said


def test_every_action_on_one_master_has_its_control() -> None:
    ours = (State.BACK, State.RELOADED_BACK, State.COMMITTED, State.RELOADED_COMMITTED)

    assert {action for state in ours for action in ACTIONS[state]} <= set(ACTIONS[State.UNTOUCHED])
