"""The result of a case of the kill matrix, and the checks of a host after it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.lab.folder import Init
from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import OWN, START
from fleet.lab.traffic.load import TrafficReport
from tests.support.lab.inside import STATE_DIR, Inside, Process
from tests.support.lab.layout import layout_of
from tests.support.lab.matrix import Fault
from tests.support.private_nginx import wait_until

QUIET_S = 60.0
TAKES_SERVICE = (Fault.POWER, Fault.RESTART)
"""Faults that take all service away by themselves."""
DROP_INS = "/run/systemd/system/nginx.service.d"
SYSTEM_START = "systemctl start nginx.service"
IN_HAND_S = 0.5
"""No request of these clients takes longer."""
STRAY = re.compile(r"\.tmp\.|\.keep\.|\.lib\.|filler")
"""In the state folder. What was uploaded and not staged (`nginx.part.gz`, `nginx.part.gz.1a2b3c4d`) is none: another laptop may
be at it just now, and an hour later it is forgotten.
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where a command must lead."""

    phase: str
    serves: Path
    codes: tuple[int, ...]


@dataclass(slots=True)
class Result:
    """What a case showed. `problems` empty: all is as it must be. `codes` are the exit codes by command, `phase` is what
    status said after the fault, `ended` what it said at the end; `unserved_s` is how long nothing was served.
    """

    name: str
    host: str
    problems: list[str] = field(default_factory=list)
    struck: bool = False
    failed: int = 0
    requests: int = 0
    unserved_s: float = 0.0
    codes: dict[str, int] = field(default_factory=dict)
    phase: str = ""
    ended: str = ""
    is_down: bool = False
    notes: list[str] = field(default_factory=list)

    def check(self, so: object, problem: str) -> bool:
        if not so:
            self.problems.append(problem)
        return bool(so)


def scripts(host: LabHost) -> tuple[Process, ...]:
    """The step scripts that live on the host."""
    return Inside(host).scripts()


def until_quiet(host: LabHost) -> None:
    """No step script runs on the host; a stopped one is left as it is."""
    quiet = 0

    def is_quiet() -> bool:
        nonlocal quiet
        # One look is not enough: a process that changes its parent during it can be overlooked.
        quiet = quiet + 1 if all(one.state in "Tt" for one in scripts(host)) else 0
        return quiet > 2

    wait_until(is_quiet, "the step script's end", QUIET_S)


def until_unwatched(host: LabHost) -> None:
    """No process watches a lease on the host."""
    wait_until(lambda: not Inside(host).watchers(), "the end of the lease's watcher", QUIET_S)


def must_be_whole(host: LabHost, told: dict[str, Any], result: Result, phases: Sequence[str], serves: str) -> None:
    """One master and its workers of this release, the same file at the path, one true pid file, nothing else."""
    check = result.check
    check(told["phase"] in phases, f"status says {told['phase']}, not {' or '.join(phases)}")
    check(told["running_sha256"] == serves, "status: another release serves")
    check(told["path_sha256"] == serves, "status: another file lies at the path")
    until_quiet(host)
    inside = Inside(host)
    masters = inside.masters()
    if not check(len(masters) == 1, f"{len(masters)} masters"):
        return
    check(masters[0].image_sha256 == serves, "another release runs")
    check(inside.pid_file() == masters[0].inner, "the pid file does not name the master")
    check(inside.pid_file(".oldbin") is None, "there is an .oldbin")
    if is_systemd(host):
        followed = host.sh("systemctl show nginx --value -p MainPID -p ActiveState").split()
        check(sorted(followed) == sorted([str(masters[0].inner), "active"]), f"systemd has {followed}")
    orphans = [one for one in inside.processes() if one.name == "nginx" and one not in masters]
    check(all(one.parent == masters[0].pid for one in orphans), f"orphans: {orphans}")
    check(not (stray := lie_in(inside)), f"stray files: {', '.join(stray)}")
    check(not (left := scripts(host)), f"step scripts: {left}")
    until_unwatched(host)


def is_systemd(host: LabHost) -> bool:
    """Whether systemd is the host's PID 1."""
    return host.entry.init is not Init.RC


def lie_in(inside: Inside) -> tuple[str, ...]:
    """Files that have no business to be there: neither nginx's own nor what fleet keeps. In folders that nginx shares with
    other programs only those that are named after it count.
    """
    layout = layout_of(inside.host)
    folders = {Path(path).parent for path in (layout.program, layout.pid_file, layout.error_log)}
    found = {one.name for folder in folders for one in inside.path(str(folder)).iterdir()}
    found = {name for name in found if layout == OWN or name.strip(".").startswith("nginx")}
    found -= {"nginx", "nginx.pid", *(name + end for name in ("access.log", "error.log") for end in ("", ".1"))}
    drop_ins = inside.path(DROP_INS)
    found |= {one.name for one in drop_ins.iterdir()} if drop_ins.exists() else set()
    state = inside.path(STATE_DIR)
    kept = [path.relative_to(state) for path in state.rglob("*")] if state.exists() else []
    return tuple(sorted([*found, *(str(path) for path in kept if STRAY.search(path.name))]))


def start_as_told(host: LabHost, told: dict[str, Any], result: Result, is_known: bool) -> None:
    """nginx is started as a person would: what status says, in its order. How a master was started that died before
    fleet ever saw it is not `is_known`. systemd ends the old workers itself when their master has died.
    """
    check, start = result.check, SYSTEM_START if is_systemd(host) else START
    check(told["phase"] == "DOWN", f"no master is left, and status says {told['phase']}")
    check(told["orphans"] or is_systemd(host), "the old workers do not serve, or status does not name them")
    check(not is_known or told["start_command"] == start, f"status: start it by {told['start_command']}")
    if told["orphans"]:
        host.sh("kill -QUIT " + " ".join(map(str, told["orphans"])))
    host.sh(told["start_command"] if is_known and told["start_command"] else start)
    wait_until(lambda: bool(Inside(host).workers()), "workers after the start")


def count(
    result: Result,
    report: TrafficReport,
    windows: Sequence[tuple[float, float]],
    fault: Fault,
    struck: tuple[float, float],
    may_fail: bool = False,
) -> None:
    """How many requests failed while fleet or the fault was at work, and for how long nothing was served. `may_fail`:
    where systemd ends what the fault has left alive.

    What a killed worker had in hand just then is lost with it in any upgrade: it doesn't count.
    """
    in_hand = (struck[0] - IN_HAND_S, struck[1]) if fault is Fault.KILL_WORKERS else (0.0, 0.0)

    def counts(at_s: float) -> bool:
        return any(first <= at_s < last for first, last in windows) and not in_hand[0] <= at_s < in_hand[1]

    bad = [each for each in report.failures if counts(each.at_s)]
    began = [at_s for times in report.began_s.values() for at_s in times if counts(at_s)]
    result.failed, result.requests = len(bad), len(began)
    if bad:
        times = sorted(each.at_s for each in bad)
        well = [at_s for at_s in began if at_s > times[-1]]
        result.unserved_s = (min(well) if well else report.until_s) - times[0]
    if fault not in TAKES_SERVICE and not may_fail:
        said = [f"+{each.at_s - report.from_s:.2f} s {each.client} {each.what} {each.detail}" for each in bad[:5]]
        result.check(not bad, f"{len(bad)} of {len(began)} requests failed: {'; '.join(said)}")
    result.check(report.withheld == 0, "the clients could not keep pace: the count is useless")
