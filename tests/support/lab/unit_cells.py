"""The table *unit kind × state × action* on paper: what an outsider does to nginx's unit, and what must come of it.

An outsider is whoever is not fleet: a person, systemd, needrestart, a package's script, the power supply. What he does to
a host on which fleet has ended (rolled back, committed) must end as it ends on a host that fleet has never touched: that
host is the control, played in the same run. What he does to a held host has its result in HELD_RESULTS.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple


class State(Enum):
    """What fleet has made of the host before the outsider comes."""

    UNTOUCHED = "never touched by fleet"
    VERIFYING = "while the new release is verified"
    HELD = "held"
    RELOADED = "held, then reloaded"
    BACK = "rolled back"
    RELOADED_BACK = "held, reloaded, rolled back"
    COMMITTED = "held, committed"
    RELOADED_COMMITTED = "held, reloaded, committed"


class Action(Enum):
    """What the outsider does."""

    RELOAD = "systemctl reload"
    BAD_RELOAD = "systemctl reload with a broken nginx.conf"
    STOP = "systemctl stop"
    RESTART = "systemctl restart"
    TRY_RESTART = "systemctl try-restart"
    STOP_START = "systemctl stop, then start"
    DAEMON_RELOAD = "systemctl daemon-reload"
    DAEMON_REEXEC = "systemctl daemon-reexec"
    KILL_OLD = "SIGKILL of the old master"
    KILL_NEW = "SIGKILL of the new master"
    KILL_ONLY = "SIGKILL of the only master"
    POWER = "power off and on"
    LEASE = "the controller is killed, and the lease runs out"
    NEEDRESTART = "needrestart -r a"
    UNRELATED = "apt-get install of another package, with automatic needrestart"
    NEWER = "dpkg -i of a newer nginx"


TWO_MASTERS = (State.VERIFYING, State.HELD, State.RELOADED)
GUARDED = (Action.STOP, Action.RESTART, Action.TRY_RESTART, Action.STOP_START)
"""What the guard of a held unit refuses."""
KILLS = (Action.KILL_OLD, Action.KILL_NEW, Action.KILL_ONLY)
OF_PACKAGES = (Action.NEEDRESTART, Action.UNRELATED, Action.NEWER)
"""What only hosts with a database of packages play."""
ON_ONE = (Action.RELOAD, Action.BAD_RELOAD, Action.STOP, Action.RESTART)

ACTIONS: Mapping[State, tuple[Action, ...]] = {
    State.UNTOUCHED: (*ON_ONE, Action.TRY_RESTART, Action.KILL_ONLY, *OF_PACKAGES),
    State.VERIFYING: (Action.RELOAD, Action.RESTART, Action.KILL_OLD, Action.KILL_NEW),
    State.HELD: (
        *(Action.RELOAD, Action.BAD_RELOAD, *GUARDED, Action.DAEMON_RELOAD, Action.DAEMON_REEXEC),
        *(Action.KILL_OLD, Action.KILL_NEW, Action.POWER, Action.LEASE, *OF_PACKAGES),
    ),
    State.RELOADED: (Action.RELOAD, Action.BAD_RELOAD, Action.RESTART, Action.KILL_OLD, Action.KILL_NEW),
    State.BACK: (*ON_ONE, Action.TRY_RESTART, Action.KILL_ONLY, *OF_PACKAGES),
    State.RELOADED_BACK: (*ON_ONE, Action.TRY_RESTART, Action.KILL_ONLY),
    State.COMMITTED: (*ON_ONE, Action.TRY_RESTART, Action.KILL_ONLY, *OF_PACKAGES),
    State.RELOADED_COMMITTED: ON_ONE,
}


class Cell(NamedTuple):
    """What is played on one host of each kind."""

    state: State
    action: Action

    def __str__(self) -> str:
        return f"{self.state.name}-{self.action.name}".lower()


@dataclass(frozen=True, slots=True)
class Held:
    """What must come of an action while there are two masters. `phases`: what status may say then; `refused`: systemd says
    no, and changes nothing; `retires`: the old master is ended, so that fleet finds a commit that was not its own; `loses`:
    requests may fail, because the action takes all service away; `strays`: the master that systemd follows ends unseen, since
    it is no child of systemd. Then status must say so, and the next visit that acts must put it right.
    """

    phases: tuple[str, ...]
    refused: bool = False
    retires: bool = False
    loses: bool = False
    strays: bool = False


HELD_RESULTS: Mapping[Action, Held] = {
    Action.RELOAD: Held(("TRIAL",)),
    Action.BAD_RELOAD: Held(("TRIAL",)),
    **{action: Held(("TRIAL",), refused=True) for action in GUARDED},
    Action.DAEMON_RELOAD: Held(("TRIAL",)),
    Action.DAEMON_REEXEC: Held(("TRIAL",)),
    Action.KILL_OLD: Held(("NEW",)),
    Action.KILL_NEW: Held(("SWAPPED", "OLD")),
    Action.POWER: Held(("NEW",), loses=True),
    Action.LEASE: Held(("OLD",)),
    Action.NEEDRESTART: Held(("TRIAL",)),
    Action.UNRELATED: Held(("TRIAL",)),
    Action.NEWER: Held(("NEW",), retires=True),
}
VERIFYING_RESULTS: Mapping[Action, Held] = {
    Action.RELOAD: Held(("TRIAL", "OLD")),
    Action.RESTART: Held(("TRIAL",), refused=True),
    Action.KILL_OLD: Held(("NEW",)),
    Action.KILL_NEW: Held(("OLD",)),
}


def wanted(cell: Cell, kind: str) -> Held | None:
    """What must come of a cell; `None`: what comes of it on a host that fleet has never touched."""
    if cell == Cell(State.RELOADED, Action.KILL_NEW):
        return replace(HELD_RESULTS[cell.action], strays=MANNERS[kind].follows)
    if cell.action is Action.POWER and kind == BY_HAND:
        return Held(("DOWN",), loses=True)  # nothing starts it at a boot
    if cell.state is State.VERIFYING:
        return VERIFYING_RESULTS[cell.action]
    return HELD_RESULTS[cell.action] if cell.state in TWO_MASTERS else None


def control(cell: Cell) -> Cell | None:
    """The cell of an untouched host with which this one is compared."""
    if cell.state in TWO_MASTERS or cell.state is State.UNTOUCHED:
        return None
    return Cell(State.UNTOUCHED, cell.action)


BY_HAND = "systemd-by-hand"
WITH_PACKAGES = "needrestart"


class Manner(NamedTuple):
    """How systemd has to do with the nginx of a kind. `follows`: it keeps a MainPID; `guards`: its unit can refuse."""

    follows: bool = True
    guards: bool = True


MANNERS: Mapping[str, Manner] = {
    "systemd": Manner(),
    "systemd-nginx-org": Manner(),
    "systemd-mainpid": Manner(),
    "systemd-killmode-process": Manner(),
    "systemd-killmode-mixed": Manner(),
    "systemd-restart-always": Manner(),
    "systemd-hardened": Manner(),
    "systemd-sudo": Manner(),
    "systemd-limits": Manner(),
    "systemd-oneshot": Manner(follows=False),
    BY_HAND: Manner(follows=False, guards=False),
    WITH_PACKAGES: Manner(),
}
"""The kinds that are upgraded."""
REFUSED: Mapping[str, str] = {"systemd-strict": "exec_paths"}
"""The kinds that preflight refuses, with the reason."""
ALIKE = ("systemd-hardened", "systemd-sudo", "systemd-limits")
"""The kinds with Debian's unit that differ in what nginx may do or in the login. They play FOR_ALIKE alone."""
FOR_ALIKE = (
    *(Cell(State.HELD, action) for action in (Action.RELOAD, Action.RESTART, Action.POWER, Action.LEASE)),
    Cell(State.RELOADED, Action.RESTART),
    Cell(State.RELOADED, Action.KILL_NEW),
)


def cells(kind: str | None = None) -> tuple[Cell, ...]:
    """All of them, or those that hosts of this kind play; the controls come first."""
    every = (Cell(state, action) for state, actions in ACTIONS.items() for action in actions)
    return tuple(cell for cell in every if kind is None or _is_played(cell, kind))


def _is_played(cell: Cell, kind: str) -> bool:
    if (cell.action in OF_PACKAGES) is not (kind == WITH_PACKAGES):
        return False
    return kind not in ALIKE or cell in FOR_ALIKE
