"""What one cell of the unit table showed on one host, and the rules that it must keep."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from tests.support.lab.unit_cells import GUARDED, KILLS, MANNERS, TWO_MASTERS, Action, Cell, State, wanted


class Main(Enum):
    """What the MainPID of nginx's unit is."""

    OLD = "the old master"
    NEW = "the new master"
    PACKAGE = "the package's master"
    GONE = "a process that has ended"
    OTHER = "a process that is no master"
    NONE = "none"


@dataclass(slots=True)
class Shown:
    """A cell on a host of this kind.

    `lost` are the requests without an answer that began between the action and the look at its result, of `asked`;
    `before` and `after` are those of fleet's own work around it; `cut` are the downloads that were cut. `code` and `said`
    are the action's own. `main`, `active`, `restarts` are what systemd shows then; `masters` how many live; `phase`,
    `guard` and `follows` what `fleet status` says, `note` the line that it gives to start nginx, `committed_by` who
    ended the old master. `ended` is its phase after the way back, and
    `faults` is what was wrong there.
    """

    kind: str
    cell: Cell
    asked: int = 0
    lost: int = 0
    before: int = 0
    after: int = 0
    cut: int = 0
    code: int = 0
    said: str = ""
    main: Main = Main.NONE
    active: str = ""
    restarts: int = 0
    masters: int = 0
    serves: bool = False
    phase: str = ""
    guard: bool = False
    follows: bool = True
    note: str = ""
    committed_by: str = ""
    ended: str = ""
    faults: list[str] = field(default_factory=list)


def problems(shown: Shown, control: Shown | None) -> list[str]:
    """Which rules the cell breaks. `control` is the same action on a host of this kind that fleet never touched."""
    found = [*shown.faults]
    found += [f"{shown.before} requests lost before the action"] if shown.before else []
    found += [f"{shown.after} requests lost on the way back"] if shown.after else []
    found += _of_systemd(shown, control)
    is_guarded = MANNERS[shown.kind].guards or shown.cell.action not in GUARDED
    if shown.cell.state in TWO_MASTERS and is_guarded:
        found += _while_two(shown)
    elif control is not None:
        found += _against(shown, control)
    return found


def _of_systemd(shown: Shown, control: Shown | None) -> Iterator[str]:
    """Whenever nginx lives, systemd follows a master that lives, and knows the unit as active."""
    if not MANNERS[shown.kind].follows or not shown.masters or shown.cell.state is State.UNTOUCHED:
        return
    held = wanted(shown.cell, shown.kind)
    if held is not None and held.strays and shown.main is Main.GONE:
        if shown.follows:
            yield "status does not say that the unit follows no master"
        return
    if shown.main not in (Main.OLD, Main.NEW, Main.PACKAGE) and (control is None or shown.main is not control.main):
        yield f"MainPID is {shown.main.value}"
    if shown.active != "active" and (control is None or shown.active != control.active):
        yield f"nginx lives, and the unit is {shown.active}"


def _while_two(shown: Shown) -> Iterator[str]:
    held = wanted(shown.cell, shown.kind)
    assert held is not None
    if held.refused and not shown.code:
        yield "systemd did not refuse"
    if held.refused and shown.masters != 2:
        yield f"{shown.masters} masters are left"
    if held.retires and not shown.committed_by:
        yield "status does not say who ended the old master"
    if not held.loses and shown.lost:
        yield f"{shown.lost} of {shown.asked} requests lost"
    if not shown.serves and "DOWN" not in held.phases:
        yield "nginx does not serve"
    if shown.phase not in held.phases:
        yield f"status says {shown.phase}, not {' or '.join(held.phases)}"
    yield from _of_the_guard(shown)


def _of_the_guard(shown: Shown) -> Iterator[str]:
    """It is on while there are two masters. Where one was ended it stays until the next visit of fleet."""
    has_two = shown.phase in ("TRIAL", "OVERLAP")
    if shown.guard is not (has_two and MANNERS[shown.kind].guards) and shown.cell.action not in (*KILLS, Action.NEWER):
        yield "status says that the unit is guarded" if shown.guard else "status says of no guard"


def _against(shown: Shown, control: Shown) -> Iterator[str]:
    """Nothing is worse than it would be without fleet."""
    if shown.cell.state not in TWO_MASTERS and shown.guard:
        yield "the guard is still there"
    if bool(shown.code) is not bool(control.code):
        yield f"it ended {shown.code} ({shown.said}), without fleet {control.code}"
    if shown.serves is not control.serves:
        yield f"nginx {'serves' if shown.serves else 'does not serve'}, without fleet the contrary"
    if shown.active != control.active:
        yield f"the unit is {shown.active}, without fleet {control.active}"
    if shown.restarts > control.restarts:
        yield f"systemd started nginx again {shown.restarts} times, without fleet {control.restarts}"
    if shown.lost and not control.lost:
        yield f"{shown.lost} of {shown.asked} requests lost, without fleet none"
    if shown.cut and not control.cut:
        yield f"{shown.cut} downloads cut, without fleet none"
