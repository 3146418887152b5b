"""One cell of the kill matrix, played on one lab host: the scene, the fault in its moment, the ending, and what is so then.

What went wrong is said in words, all of it, and never raised: a cell that fails must not hide what else it shows.
"""

import json
import signal
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.errors import FleetError
from fleet.lab.host import LabHost
from fleet.lab.lab import Lab
from fleet.lab.nginx import START
from fleet.lab.traffic import Traffic, TrafficReport
from tests.lab import faulty
from tests.lab.controllers import Controller, Controllers
from tests.lab.faults import Ground, lie_in, nothing, strike
from tests.lab.inside import STATE_DIR, Inside
from tests.lab.matrix import FULL, Cell, Ending, Fault, Masters, Moment, Scene, moment
from tests.lab.operator import sha256
from tests.private_nginx import wait_until

COMMAND_S = 150.0
REACH_S = 60.0
QUIET_S = 60.0
PATIENCE_S = 90.0
RATE_PER_S = 20.0
BRISK = ("-y", "--bake", "0s", "--settle", "300ms", "--batches", "100%", "--on-failure", "halt", "--drain-timeout", "20s")
CLAIMED = ("swap", "launch", "verify", "drain", "retire", "sweep", "revive", "dismiss", "restore", "between")
"""Rows in which the first operator's rollout has the host."""
TAKES_SERVICE = (Fault.POWER, Fault.RESTART)
BUG, REFUSED, PERSON = 1, 2, 4


class Missed(Exception):
    """The fault did not come in its moment: the cell shows nothing."""


@dataclass(frozen=True, slots=True)
class Releases:
    """What is brought where: `base` runs at first, `target` meets the fault, `following` is the upgrade after it, `other`
    is what a second operator wants, and `big` is a target whose upload takes long enough to be caught in it.
    """

    base: Path
    target: Path
    big: Path
    following: Path
    other: Path


@dataclass(slots=True)
class Result:
    """What a cell showed. `problems` empty: all is as it must be. `codes` are the exit codes by command."""

    cell: Cell
    host: str
    problems: list[str] = field(default_factory=list)
    failed: int = 0
    requests: int = 0
    unserved_s: float = 0.0
    codes: dict[str, int] = field(default_factory=dict)
    phase: str = ""
    is_down: bool = False
    notes: list[str] = field(default_factory=list)

    def check(self, so: object, problem: str) -> bool:
        if not so:
            self.problems.append(problem)
        return bool(so)


class Play:
    """A run of one cell on one host that is OLD and has nothing of fleet's at work."""

    def __init__(self, cell: Cell, lab: Lab, host: LabHost, controllers: Controllers, releases: Releases) -> None:
        self.cell = cell
        self.lab = lab
        self.host = host
        self.moment: Moment = moment(cell.row, cell.fault)
        self.target = releases.big if self.moment.place == "upload" else releases.target
        self.result = Result(cell, host.name)
        self._controllers = controllers
        self._releases = releases
        self._windows: list[tuple[float, float]] = []
        self._marks = 0

    def run(self) -> Result:
        """What it showed."""
        try:
            with self._traffic() as traffic:
                self._act(traffic)
                self._count(traffic.stop())
        except Missed as error:
            self.result.problems.append(f"missed: {error}")
        except (AssertionError, FleetError, OSError, ValueError) as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.result.problems.append(f"{type(error).__name__} in {where.name}: {error}")
        return self.result

    def _traffic(self) -> Traffic:
        target = {self.host.name: f"{self.host.address}:80"}
        return Traffic(target, rate_per_s=RATE_PER_S, keepalive=1, keepalive_rate_per_s=5.0, slow=False)

    def _act(self, traffic: Traffic) -> None:
        began_s = self._mark(traffic)
        self._meet_fault()
        told = self._status()
        self.result.phase = str(told["phase"])
        self.result.is_down = not Inside(self.host).masters()
        self._end()
        self._windows.append((began_s, self._mark(traffic)))
        if self.result.is_down:
            self._start_as_told()
        began_s = self._mark(traffic)
        self._upgrade_again()
        self._windows.append((began_s, self._mark(traffic)))

    # The scene and the fault

    def _meet_fault(self) -> None:
        if self.moment.scene is not Scene.UPGRADE:
            self._run("scene", "upgrade", str(self.target), *BRISK, "--commit", "never", expected=(0,))
        self._plan()
        controller = self._begin()
        self._hold(controller)
        self._must_be_in_it()
        stopped = self._scripts()
        ground = Ground(self.host, controller, stopped[0] if stopped else None, sha256(self.target), self._second)
        mend = strike(self.cell.fault, ground)
        self.result.notes += ground.notes
        self._go()
        if self.cell.fault is Fault.CUT_LINK and self.moment.step is not None:
            self._until_quiet()
            mend()
            mend = nothing
        code = controller.wait(COMMAND_S)
        self._judge_code("fault", code, controller)
        self._until_quiet()
        mend()
        left = ground.left_no_master
        self.result.check(not left or self.cell.fault in (Fault.KILL_NEW, Fault.KILL_OLD), "no master was left")

    def _begin(self) -> Controller:
        words: tuple[str, ...]
        if self.moment.scene is Scene.UPGRADE:
            words = ("upgrade", str(self.target), *BRISK, "--commit", "end")
        else:
            words = (self.moment.scene.value, "-y", "--drain-timeout", "20s")
        return self._start(*words, faulty=True)

    def _plan(self) -> None:
        inside = Inside(self.host)
        folder = inside.path(faulty.FOLDER)
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        plan = {"step": self.moment.step, "place": self.moment.place, "patience_s": PATIENCE_S}
        inside.path(faulty.PLAN).write_text(json.dumps(plan))

    def _hold(self, controller: Controller) -> None:
        """The moment has come, and lasts until `_go`. Raises `Missed` when the command ends without it."""
        inside = Inside(self.host)

        def is_reached() -> bool:
            if not controller.is_running:
                raise Missed(f"the command ended {controller.code} before it came there: {_last(controller)}")
            if self.moment.place == "connect":
                return self._stop_sessions(bool(inside.sessions()))
            if self.moment.place == "upload":
                return self._stop_sessions(self._is_half_uploaded(inside))
            return inside.path(faulty.REACHED).exists()

        wait_until(is_reached, f"the moment {self.moment}", REACH_S)
        if self.moment.masters is Masters.BOTH:
            wait_until(lambda: self._both_serve(inside), "two masters")

    def _stop_sessions(self, due: bool) -> bool:
        if due:
            for one in Inside(self.host).sessions():
                one.signal(signal.SIGSTOP)
        return due

    def _is_half_uploaded(self, inside: Inside) -> bool:
        wanted = self.target.stat().st_size
        parts = inside.path(f"{STATE_DIR}/releases/{sha256(self.target)}").glob("*.part*")
        return any(0 < part.stat().st_size < wanted for part in parts)

    def _both_serve(self, inside: Inside) -> bool:
        masters = inside.masters()
        new = [one for one in masters if one.image_sha256 == sha256(self.target)]
        return len(masters) == 2 and len(new) == 1 and any(one.parent == new[0].pid for one in inside.workers())

    def _must_be_in_it(self) -> None:
        """Raises `Missed` unless the host's own journal says that just this is going on."""
        inside = Inside(self.host)
        if self.moment.place == "upload":
            self._until_quiet()  # the script that asked for the release has said so, and is still ending
        now, scripts = inside.open_intent(), self._scripts()
        wanted = None if self.moment.place in ("after", "connect", "upload") else self.moment.step
        if now != wanted:
            raise Missed(f"the host's journal has the open intent {now}, not {wanted}")
        if self.moment.step is None and scripts:
            raise Missed("a step script runs there already")
        if self.moment.place == "upload" and not self._is_half_uploaded(inside):
            raise Missed("the upload has ended")

    def _go(self) -> None:
        inside = Inside(self.host)
        if inside.path(faulty.FOLDER).exists():
            inside.path(faulty.GO).touch()
        for one in inside.sessions():
            one.signal(signal.SIGCONT)

    def _scripts(self) -> list[Any]:
        return list(Inside(self.host).scripts())

    def _until_quiet(self) -> None:
        """No step script works there any more; one that was stopped is left as it is."""
        quiet = 0

        def is_quiet() -> bool:
            nonlocal quiet
            # Once is not enough: who changes its parent while we look can be overlooked.
            quiet = quiet + 1 if all(one.state in "Tt" for one in self._scripts()) else 0
            return quiet > 2

        wait_until(is_quiet, "the step script's end", QUIET_S)

    def _second(self) -> int:
        """Another operator on another laptop: an upgrade to another release, or, where nobody has the host yet, a check."""
        release = str(self._releases.other)
        words = ("upgrade", release, *BRISK) if self.cell.row in CLAIMED else ("check", release)
        second = self._controllers.start(self.lab, *words, "-l", self.host.name)
        code = second.wait(COMMAND_S)
        self._judge_code("second", code, second)
        self.result.check(code != 0 or words[0] == "check", f"the second fleet was let in: {_last(second)}")
        return code

    # The ending

    def _end(self) -> None:
        wanted = self._wanted_code()
        if self.cell.ending is Ending.ROLLBACK:
            self._run("rollback", "rollback", "-y", "--drain-timeout", "20s", expected=wanted)
        else:
            self._run("resume", "upgrade", str(self.target), *BRISK, "--commit", "end", expected=wanted)
        self._let_stopped_go_on()
        if not self.result.is_down:
            serves = self._releases.base if self.cell.ending is Ending.ROLLBACK else self.target
            self._must_be_whole("OLD" if self.cell.ending is Ending.ROLLBACK else "NEW", serves)

    def _wanted_code(self) -> tuple[int, ...]:
        """How the ending may end. A host that died before the rollout had it is refused, or nothing is to be undone."""
        if not self.result.is_down:
            return (0,)
        return (PERSON,) if self.cell.row in CLAIMED else (0, REFUSED, PERSON)

    def _let_stopped_go_on(self) -> None:
        """A step script that was stopped and is still there wakes up: too late to do any harm."""
        stopped = [one for one in self._scripts() if one.state in "Tt"]
        for one in stopped:
            self.result.notes.append("the stopped step script was still there")
            one.signal(signal.SIGCONT)
        self._until_quiet()

    def _must_be_whole(self, phase: str, serves: Path) -> None:
        """One master and its workers of this release, the same file at the path, one true pid file, nothing else."""
        told, check, wanted = self._status(), self.result.check, sha256(serves)
        self._until_quiet()
        check(told["phase"] == phase, f"status says {told['phase']}, not {phase}")
        check(told["running_sha256"] == wanted, "status: another release serves")
        check(told["path_sha256"] == wanted, "status: another file lies at the path")
        inside = Inside(self.host)
        masters = inside.masters()
        if not check(len(masters) == 1, f"{len(masters)} masters"):
            return
        check(masters[0].image_sha256 == wanted, "another release runs")
        check(inside.pid_file() == masters[0].inner, "the pid file does not name the master")
        check(inside.pid_file(".oldbin") is None, "there is an .oldbin")
        orphans = [one for one in inside.processes() if one.name == "nginx" and one not in masters]
        check(all(one.parent == masters[0].pid for one in orphans), f"orphans: {orphans}")
        check(not (stray := lie_in(inside)), f"stray files: {', '.join(stray)}")
        check(not (scripts := self._scripts()), f"step scripts: {scripts}")

    def _start_as_told(self) -> None:
        """As a person would: what status says, in its order."""
        told, check = self._status(), self.result.check
        check(told["phase"] == "DOWN", f"no master is left, and status says {told['phase']}")
        check(told["orphans"], "the old workers do not serve, or status does not name them")
        if told["orphans"]:
            self.host.sh("kill -QUIT " + " ".join(map(str, told["orphans"])))
        # Of a master that died before fleet ever saw it nobody knows how it was started.
        is_known = self.moment.place != "connect"
        check(not is_known or told["start_command"] == START, f"start it by {told['start_command']}")
        self.host.sh(told["start_command"] if is_known and told["start_command"] else START)
        wait_until(lambda: bool(Inside(self.host).workers()), "workers after the start")

    def _upgrade_again(self) -> None:
        following = self._releases.following
        self._run("next", "upgrade", str(following), *BRISK, "--commit", "end", expected=(0,))
        self._must_be_whole("NEW", following)

    # Commands

    def _start(self, *words: str, faulty: bool = False) -> Controller:
        journal = f"{self.cell.row}-{self.cell.fault.name}-{self.cell.ending.name}"
        return self._controllers.start(self.lab, *words, "-l", self.host.name, faulty=faulty, journal=journal)

    def _run(self, name: str, *words: str, expected: tuple[int, ...] = ()) -> Controller:
        ran = self._start(*words)
        code = ran.wait(COMMAND_S)
        self._judge_code(name, code, ran)
        if expected:
            self.result.check(code in expected, f"{name}: exit {code}, not {expected}: {_last(ran)}")
        return ran

    def _judge_code(self, name: str, code: int, ran: Controller) -> None:
        self.result.codes[name] = code
        self.result.check(code != BUG and "Traceback" not in ran.said, f"{name}: a bug in fleet: {ran.said}")

    def _status(self) -> dict[str, Any]:
        ran = self._run("status", "status", "--json")
        said = ran.said
        document = json.JSONDecoder().raw_decode(said[said.index("{") :])[0]
        host: dict[str, Any] = document["hosts"][0]
        return host

    # The users

    def _mark(self, traffic: Traffic) -> float:
        self._marks += 1
        return traffic.mark(str(self._marks))

    def _count(self, report: TrafficReport) -> None:
        """How many requests failed while fleet or the fault was at work, and for how long nothing was served."""
        result = self.result

        def counts(at_s: float) -> bool:
            return any(first <= at_s < last for first, last in self._windows)

        bad = sorted(each.at_s for each in report.failures if counts(each.at_s))
        began = [at_s for times in report.began_s.values() for at_s in times if counts(at_s)]
        result.failed, result.requests = len(bad), len(began)
        if bad:
            well = [at_s for at_s in began if at_s > bad[-1]]
            result.unserved_s = (min(well) if well else report.until_s) - bad[0]
        if self.cell.fault not in TAKES_SERVICE:
            said = [f"+{each.at_s - report.from_s:.2f} s {each.client} {each.what} {each.detail}" for each in report.failures]
            result.check(not bad, f"{len(bad)} of {len(began)} requests failed: {'; '.join(said[:5])}")
        result.check(report.withheld == 0, "the clients could not keep pace: the count is useless")


def _last(ran: Controller) -> str:
    """The end of what a command said: what matters is there."""
    return " / ".join(ran.said.strip().splitlines()[-4:])[-700:]
