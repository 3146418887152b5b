"""The kill matrix on paper: which faults meet a host in which steps, and where in the step.

Rows are moments of a rollout, columns are faults; each cell is played twice, once with each ending. A cell that can't
be is in IMPOSSIBLE with its reason, so that rows times columns is always the whole.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Ending(Enum):
    """What the operator does after the fault, and where the host must be then."""

    RESUME = "resume"
    ROLLBACK = "rollback"


class Fault(Enum):
    """The columns."""

    KILL_CONTROLLER = "controller killed"
    CUT_LINK = "link cut"
    KILL_SCRIPT = "step script killed"
    STOP_SCRIPT = "step script stopped"
    KILL_NEW = "new master killed"
    KILL_OLD = "old master killed"
    KILL_WORKERS = "new workers killed"
    POWER = "power off and on"
    FULL_STATE = "state disk full"
    FULL_BINARY = "binary's disk full"
    FULL_PID = "pid file's disk full"
    SECOND_FLEET = "second fleet"
    RELOAD = "reload (HUP)"
    ROTATE = "log rotation (USR1)"
    RESTART = "restart from outside"
    IDLE_DIES = "conversation dies while idle"


class Scene(Enum):
    """Which command meets the fault, and what was done before it."""

    UPGRADE = "upgrade"
    COMMIT = "commit"
    ROLLBACK = "rollback"


class Masters(Enum):
    """The processes that run when the fault comes."""

    OLD = "old"
    BOTH = "both"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Moment:
    """A row. `step` and `place` are where the step script stops (`tests/support/lab/faulty.py`); without a step it is the
    controller that is caught, on its way in (`connect`), in the upload, or `after_s` seconds (`clock`). In the place
    `idle` the request that did the step is over, and its script waits for the next one. `masters` are those that the
    fault waits for.
    """

    name: str
    scene: Scene
    step: str | None
    place: str
    masters: Masters | None
    after_s: float = 0.0


ROWS: tuple[Moment, ...] = (
    Moment("connect", Scene.UPGRADE, None, "connect", Masters.OLD),
    Moment("upload", Scene.UPGRADE, None, "upload", Masters.OLD),
    Moment("stage", Scene.UPGRADE, "stage", "effect", Masters.OLD),
    Moment("swap", Scene.UPGRADE, "swap", "effect", Masters.OLD),
    Moment("between", Scene.UPGRADE, "swap", "after", Masters.OLD),
    Moment("launch", Scene.UPGRADE, "launch", "effect", Masters.BOTH),
    Moment("verify", Scene.UPGRADE, "verify", "pause", Masters.BOTH),
    Moment("drain", Scene.UPGRADE, "drain", "effect", Masters.BOTH),
    Moment("idle", Scene.UPGRADE, "drain", "idle", Masters.BOTH),
    Moment("retire", Scene.COMMIT, "retire", "effect", Masters.NEW),
    Moment("sweep", Scene.COMMIT, "sweep", "effect", Masters.NEW),
    Moment("revive", Scene.ROLLBACK, "revive", "effect", Masters.BOTH),
    Moment("dismiss", Scene.ROLLBACK, "dismiss", "effect", Masters.OLD),
    Moment("restore", Scene.ROLLBACK, "restore", "effect", Masters.OLD),
)
"""In the order in which a host meets them."""

FULL = (Fault.FULL_STATE, Fault.FULL_BINARY, Fault.FULL_PID)
ON_SCRIPT = (Fault.KILL_SCRIPT, Fault.STOP_SCRIPT)
ON_NEW = (Fault.KILL_NEW, Fault.KILL_WORKERS)

SPECIAL: Mapping[tuple[str, Fault], Moment] = {
    # Where the step's own signal ends the process to be killed, the fault comes before it.
    ("retire", Fault.KILL_OLD): Moment("retire", Scene.COMMIT, "retire", "intent", Masters.BOTH),
    ("dismiss", Fault.KILL_NEW): Moment("dismiss", Scene.ROLLBACK, "dismiss", "intent", Masters.BOTH),
    ("dismiss", Fault.KILL_WORKERS): Moment("dismiss", Scene.ROLLBACK, "dismiss", "intent", Masters.BOTH),
    # There is a new master between later steps only.
    ("between", Fault.KILL_NEW): Moment("between", Scene.UPGRADE, "verify", "after", Masters.BOTH),
    ("between", Fault.KILL_WORKERS): Moment("between", Scene.UPGRADE, "verify", "after", Masters.BOTH),
}

NO_SCRIPT = "there is no step script yet"
NO_REQUEST = "no request has been answered yet"
NO_NEW = "there is no new master"
NO_OLD = "the old master is gone"


class Cell(NamedTuple):
    """One run."""

    row: str
    fault: Fault
    ending: Ending

    def __str__(self) -> str:
        return f"{self.row}/{self.fault.name.lower()}/{self.ending.value}"


def moment(row: str, fault: Fault) -> Moment:
    """Where in this row this fault comes."""
    if (row, fault) in SPECIAL:
        return SPECIAL[row, fault]
    found = next(one for one in ROWS if one.name == row)
    if fault in FULL and found.step is not None and found.place not in ("after", "idle"):
        return Moment(row, found.scene, found.step, "intent", None)  # so that the act meets the full disk
    return found


def impossible(row: str, fault: Fault) -> str | None:
    """Why there is no such cell, or `None` when there is."""
    there = moment(row, fault)
    if fault in ON_SCRIPT and there.place == "connect":
        return NO_SCRIPT
    if fault is Fault.IDLE_DIES and there.place == "connect":
        return NO_REQUEST
    if fault in ON_NEW and there.masters is Masters.OLD:
        return NO_NEW
    if fault is Fault.KILL_OLD and there.masters is Masters.NEW:
        return NO_OLD
    return None


def cells() -> tuple[Cell, ...]:
    """All that can be played."""
    return tuple(
        Cell(row.name, fault, ending)
        for row in ROWS
        for fault in Fault
        for ending in Ending
        if impossible(row.name, fault) is None
    )


def systemd_cells() -> tuple[Cell, ...]:
    """Those that are played on hosts with systemd, too: it has no part in full disks."""
    return tuple(cell for cell in cells() if cell.fault not in FULL)


def chosen(seed: int, among: Sequence[Cell] | None = None) -> tuple[Cell, ...]:
    """As few cells as cover every row, every column and both endings, drawn by `seed`."""
    draw = random.Random(seed)
    left = list(cells() if among is None else among)
    draw.shuffle(left)
    wanted = {part for cell in left for part in cell}
    found: list[Cell] = []
    while wanted:
        best = max(left, key=lambda cell: len(wanted & set(cell)))
        found.append(best)
        left.remove(best)
        wanted -= set(best)
    return tuple(found)
