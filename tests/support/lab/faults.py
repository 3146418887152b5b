"""The faults of the kill matrix: how each is caused on a lab host from outside, and undone afterwards where possible."""

import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from os.path import dirname

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import START
from tests.support.lab import faulty
from tests.support.lab.end_state import is_systemd
from tests.support.lab.forks import Controller
from tests.support.lab.inside import STATE_DIR, Inside, Process
from tests.support.lab.layout import layout_of
from tests.support.lab.matrix import Fault
from tests.support.private_nginx import wait_until

SSH_PORT = 22
FILLER = "filler"
STOP_S = 5.0
BLOCK = bytes(1 << 16)


class NoVictim(Exception):
    """What the fault should strike is not there."""


def nothing() -> None:
    """Most faults need no repair."""


@dataclass(slots=True)
class Ground:
    """Where a fault strikes. `script` is the step script that has stopped there, `target` the release on its way in;
    `second` starts another operator's fleet and returns when that has ended.
    """

    host: LabHost
    controller: Controller
    script: Process | None
    target: str
    second: Callable[[], int]
    notes: list[str] = field(default_factory=list)

    @property
    def inside(self) -> Inside:
        return Inside(self.host)

    def by_systemctl(self, verb: str) -> None:
        """An outsider types it; a guarded unit may refuse."""
        done = self.host.exec(["systemctl", verb, "nginx"])
        self.notes.append(f"systemctl {verb} ended {done.returncode}")


def strike(fault: Fault, ground: Ground) -> Callable[[], None]:
    """Makes the fault. Returns its repair, to be called when no process of fleet runs on the host."""
    return STRIKES[fault](ground)


def _kill_controller(ground: Ground) -> Callable[[], None]:
    ground.controller.signal(signal.SIGKILL)
    return nothing


def _cut_link(ground: Ground) -> Callable[[], None]:
    ground.host.cut(SSH_PORT)
    return ground.host.heal


def _kill_script(ground: Ground) -> Callable[[], None]:
    _script(ground).signal(signal.SIGKILL)
    return nothing


def _stop_script(ground: Ground) -> Callable[[], None]:
    """The operator sees that nothing moves, and interrupts twice."""
    controller = ground.controller
    _script(ground).signal(signal.SIGSTOP)
    controller.signal(signal.SIGINT)
    # A look has no events, and its stop has none either.
    with suppress(AssertionError):
        wait_until(lambda: "no new host is begun" in controller.said or not controller.is_running, "its answer", STOP_S)
    controller.signal(signal.SIGINT)
    return nothing


def _script(ground: Ground) -> Process:
    if ground.script is None:
        raise NoVictim("no step script runs")
    return ground.script


def _kill_new(ground: Ground) -> Callable[[], None]:
    return _kill_masters(ground, is_new=True)


def _kill_old(ground: Ground) -> Callable[[], None]:
    return _kill_masters(ground, is_new=False)


def _kill_masters(ground: Ground, is_new: bool) -> Callable[[], None]:
    masters = ground.inside.masters()
    victims = [one for one in masters if (one.image_sha256 == ground.target) is is_new]
    if not victims:
        raise NoVictim(f"no such master: {masters}")
    for victim in victims:
        victim.signal(signal.SIGKILL)
    wait_until(lambda: not _alive(ground.inside, victims), "the end of the killed master")
    return nothing


def _alive(inside: Inside, wanted: list[Process]) -> bool:
    return bool({one.pid for one in wanted} & {one.pid for one in inside.processes()})


def _kill_workers(ground: Ground) -> Callable[[], None]:
    inside = ground.inside
    new = {one.pid for one in inside.masters() if one.image_sha256 == ground.target}
    victims = [one for one in inside.workers() if one.parent in new]
    if not victims:
        raise NoVictim("the new master has no worker")
    for victim in victims:
        victim.signal(signal.SIGKILL)
    return nothing


def _power(ground: Ground) -> Callable[[], None]:
    ground.host.kill()
    ground.host.boot()
    return nothing


def _fill(fault: Fault) -> Callable[[Ground], Callable[[], None]]:
    def fill(ground: Ground) -> Callable[[], None]:
        layout = layout_of(ground.host)
        folders = {Fault.FULL_BINARY: dirname(layout.program), Fault.FULL_PID: dirname(layout.pid_file)}
        path = ground.inside.path(f"{folders.get(fault, STATE_DIR)}/{FILLER}")
        with path.open("wb", buffering=0) as sink:
            for size in (len(BLOCK), 4096, 1):
                with suppress(OSError):
                    while sink.write(BLOCK[:size]):
                        pass
        return path.unlink

    return fill


def _second_fleet(ground: Ground) -> Callable[[], None]:
    code = ground.second()
    ground.notes.append(f"the second fleet ended {code}")
    return nothing


def _to_pid_file(ground: Ground, number: int) -> None:
    """To whom the pid file names; for a moment of every upgrade it is missing."""
    inside = ground.inside

    def named() -> list[Process]:
        inner = inside.pid_file()
        return [one for one in inside.processes() if one.inner == inner]

    with suppress(AssertionError):
        wait_until(lambda: bool(named()), "a pid file that names a process", STOP_S)
    for one in named():
        one.signal(number)
        return
    raise NoVictim(f"the pid file names {inside.pid_file()}, which does not run")


def _reload(ground: Ground) -> Callable[[], None]:
    if is_systemd(ground.host):
        ground.by_systemctl("reload")
        return nothing
    _to_pid_file(ground, signal.SIGHUP)
    return nothing


def _rotate(ground: Ground) -> Callable[[], None]:
    layout = layout_of(ground.host)
    for log in (layout.access_log, layout.error_log):
        path = ground.inside.path(log)
        if path.exists():
            path.rename(path.with_name(path.name + ".1"))
    _to_pid_file(ground, signal.SIGUSR1)
    return nothing


def _restart(ground: Ground) -> Callable[[], None]:
    """As Debian's unit does it: QUIT to the main process, after five seconds KILL to the whole group, and a start."""
    if is_systemd(ground.host):
        ground.by_systemctl("restart")
        return nothing
    inside = ground.inside
    main = [one for one in inside.processes() if one.inner == inside.pid_file()]
    for one in main:
        one.signal(signal.SIGQUIT)
    _ended_within(inside, main, STOP_S)
    # A master forks while it is being killed, so that one round is not always enough.
    while left := _of_nginx(inside):
        for one in left:
            one.signal(signal.SIGKILL)
    ground.host.sh(START)
    return nothing


def _idle_dies(ground: Ground) -> Callable[[], None]:
    ground.inside.path(faulty.IDLE_DIES).touch()
    return nothing


def _of_nginx(inside: Inside) -> list[Process]:
    return [one for one in inside.processes() if one.name == "nginx"]


def _ended_within(inside: Inside, wanted: list[Process], within_s: float) -> None:
    with suppress(AssertionError):
        wait_until(lambda: not _alive(inside, wanted), "the end of the main process", within_s)


STRIKES: dict[Fault, Callable[[Ground], Callable[[], None]]] = {
    Fault.KILL_CONTROLLER: _kill_controller,
    Fault.CUT_LINK: _cut_link,
    Fault.KILL_SCRIPT: _kill_script,
    Fault.STOP_SCRIPT: _stop_script,
    Fault.KILL_NEW: _kill_new,
    Fault.KILL_OLD: _kill_old,
    Fault.KILL_WORKERS: _kill_workers,
    Fault.POWER: _power,
    Fault.FULL_STATE: _fill(Fault.FULL_STATE),
    Fault.FULL_BINARY: _fill(Fault.FULL_BINARY),
    Fault.FULL_PID: _fill(Fault.FULL_PID),
    Fault.SECOND_FLEET: _second_fleet,
    Fault.RELOAD: _reload,
    Fault.ROTATE: _rotate,
    Fault.RESTART: _restart,
    Fault.IDLE_DIES: _idle_dies,
}
