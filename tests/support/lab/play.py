"""Plays one case on one lab host: the scene, the fault at its moment, the ending, and the checks afterwards.

What went wrong is said in words, all of it, and never raised: a case that fails must not hide what else it shows.
"""

import json
import re
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fleet.errors import FleetError
from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.lab import Lab
from fleet.lab.traffic.load import Traffic
from fleet.ssh.delivery.compress import compressed_release
from tests.support.lab import faulty
from tests.support.lab.controllers import Controllers
from tests.support.lab.end_state import (
    Result,
    Wanted,
    count,
    is_systemd,
    must_be_whole,
    scripts,
    start_as_told,
    until_quiet,
)
from tests.support.lab.faults import Ground, NoVictim, nothing, strike
from tests.support.lab.forks import Controller
from tests.support.lab.inside import STATE_DIR, Inside
from tests.support.lab.matrix import Ending, Fault, Masters, Moment, Scene
from tests.support.lab.operator import sha256
from tests.support.private_nginx import wait_until

COMMAND_S = 150.0
REACH_S = 60.0
PATIENCE_S = 90.0
RATE_PER_S = 20.0
WAY_BACK = ("-y", "--drain-timeout", "20s")
NO_ROLLOUT = "00000000-0000-none"
"""Printed where the command ended before its rollout had an id: neither the journal nor a host knows that rollout."""
UNKNOWN_ROLLOUT = ("Neither this journal nor any host knows a rollout", "No host knows a rollout")
BUG, REFUSED, PERSON = 1, 2, 4


class Missed(Exception):
    """The fault did not come in its moment: the case shows nothing."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be played. `base` runs at first, `target` meets the fault, `other` is what a second operator wants, and
    `following`, if any, is the upgrade after it. A case that is not `strict` may come too late for its moment.
    """

    name: str
    moment: Moment
    fault: Fault
    ending: Ending
    base: Path
    target: Path
    other: Path
    following: Path | None = None
    is_strict: bool = True
    settle_s: float = 0.3
    bake_s: float = 0.0
    commit: str = "end"

    @property
    def has_the_host(self) -> bool:
        """Whether the first operator's rollout has begun something there when the fault comes."""
        return self.moment.step not in (None, "stage")


class Play:
    """A run of one case on one host that is OLD and has nothing of fleet's at work."""

    def __init__(self, case: Case, lab: Lab, host: LabHost, controllers: Controllers) -> None:
        self.case = case
        self.lab = lab
        self.host = host
        self.result = Result(case.name, host.name)
        self._controllers = controllers
        self._windows: list[tuple[float, float]] = []
        self._struck = (0.0, 0.0)
        self._rollout: tuple[str, ...] = ()

    def run(self) -> Result:
        """What it showed."""
        target = {self.host.name: f"{self.host.address}:80"}
        clients = Traffic(target, rate_per_s=RATE_PER_S, keepalive=1, keepalive_rate_per_s=5.0, slow=False)
        try:
            with clients as traffic:
                self._act(traffic)
                count(
                    *(self.result, traffic.stop(), self._windows, self.case.fault, self._struck),
                    may_fail=is_systemd(self.host) and self.result.is_down,
                )
        except Missed as error:
            self.result.problems.append(f"missed: {error}")
        except (AssertionError, FleetError, OSError, ValueError, KeyError) as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.result.problems.append(f"{type(error).__name__} in {where.name}: {error}")
        return self.result

    def _act(self, traffic: Traffic) -> None:
        began_s = traffic.mark("began")
        self._meet_fault(traffic)
        self.result.phase = str(self._status()["phase"])
        self.result.is_down = not Inside(self.host).masters()
        self._end()
        self._windows.append((began_s, traffic.mark("ended")))
        if self.result.is_down:
            start_as_told(
                self.host, self._status(), self.result, is_known=self.case.moment.place not in ("connect", "clock")
            )
        began_s = traffic.mark("next")
        if self.case.following is not None:
            self._run("next", *self._upgrade(self.case.following), expected=(0,))
            self._must_be_whole(Wanted("NEW", self.case.following, (0,)))
        self._windows.append((began_s, traffic.mark("done")))

    # The scene and the fault

    def _meet_fault(self, traffic: Traffic) -> None:
        case = self.case
        if case.moment.scene is not Scene.UPGRADE:
            scene = self._run("scene", *self._upgrade(case.target, commit="never"), expected=(0,))
            self._rollout = rollout_in(scene)
        self._plan()
        began_s = self._controllers.clock()
        controller = self._begin()
        repair = self._strike(controller, began_s, traffic)
        if case.fault is Fault.CUT_LINK and scripts(self.host):
            until_quiet(self.host)
            repair()
            repair = nothing
        self._judge_code("fault", controller.wait(COMMAND_S), controller)
        if case.fault is Fault.IDLE_DIES and case.is_strict:
            self.result.check(Inside(self.host).read(faulty.DEAD), "no conversation died")
            self.result.check(controller.code == 0, f"the command minded: exit {controller.code}: {controller.last}")
        self._rollout = self._rollout or rollout_in(controller)
        until_quiet(self.host)
        repair()

    def _begin(self) -> Controller:
        if self.case.moment.scene is Scene.UPGRADE:
            return self._start(*self._upgrade(self.case.target, commit=self.case.commit), faulty=True)
        return self._start(self.case.moment.scene.value, *WAY_BACK, faulty=True)

    def _plan(self) -> None:
        inside = Inside(self.host)
        folder = inside.path(faulty.FOLDER)
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        plan = {"step": self.case.moment.step, "place": self.case.moment.place, "patience_s": PATIENCE_S}
        inside.path(faulty.PLAN).write_text(json.dumps(plan))

    def _strike(self, controller: Controller, began_s: float, traffic: Traffic) -> Callable[[], None]:
        """Makes the fault in its moment, and returns its repair. Raises `Missed`."""
        try:
            self._hold(controller, began_s)
            self._must_be_in_it()
            found = scripts(self.host)
            ground = Ground(self.host, controller, found[0] if found else None, sha256(self.case.target), self._second)
            struck_s = traffic.mark("strike")
            repair = strike(self.case.fault, ground)
            self._struck = (struck_s, traffic.mark("struck"))
        except (Missed, NoVictim) as error:
            if self.case.is_strict:
                raise Missed(str(error)) from error
            self.result.notes.append(f"too late: {error}")
            repair = nothing
        else:
            self.result.notes += ground.notes
            self.result.struck = True
        self._go()
        return repair

    def _hold(self, controller: Controller, began_s: float) -> None:
        """The moment has come, and lasts until `_go`. Raises `Missed` when the command ends without it."""
        inside = Inside(self.host)

        def is_reached() -> bool:
            if not controller.is_running:
                raise Missed(f"the command ended {controller.code} before it came there: {controller.last}")
            match self.case.moment.place:
                case "clock":
                    return self._controllers.clock() - began_s >= self.case.moment.after_s
                case "connect":
                    return self._stop_sessions(bool(inside.sessions()))
                case "upload":
                    return self._stop_sessions(self._is_half_uploaded(inside))
                case "idle":
                    return self._is_stopped_idle(inside)
                case _:
                    return inside.path(faulty.REACHED).exists()

        wait_until(is_reached, f"the moment {self.case.moment}", REACH_S)
        if self.case.moment.masters is Masters.BOTH:
            wait_until(lambda: inside.both_serve(sha256(self.case.target)), "two masters")

    def _stop_sessions(self, due: bool) -> bool:
        if due:
            for one in Inside(self.host).sessions():
                one.signal(signal.SIGSTOP)
        return due

    def _is_stopped_idle(self, inside: Inside) -> bool:
        """The step script is idle, and stays so: its session was stopped before the next request came through."""
        step = str(self.case.moment.step)
        if self._stop_sessions(inside.is_idle_after(step)) and inside.is_idle_after(step):
            return True
        self._let_sessions_go_on(inside)
        return False

    def _is_half_uploaded(self, inside: Inside) -> bool:
        wanted = packed_size(self.case.target)
        parts = inside.path(f"{STATE_DIR}/releases/{sha256(self.case.target)}").glob("*.part*")
        return any(0 < part.stat().st_size < wanted for part in parts)

    def _must_be_in_it(self) -> None:
        """Raises `Missed` unless the host's own journal says that just this is going on."""
        moment, inside = self.case.moment, Inside(self.host)
        if moment.place == "clock":
            return
        now = inside.open_intent()
        wanted = None if moment.place in ("after", "connect", "upload", "idle") else moment.step
        if now != wanted:
            raise Missed(f"the host's journal has the open intent {now}, not {wanted}")
        if moment.place == "connect" and scripts(self.host):
            raise Missed("a step script runs there already")
        if moment.place == "upload" and not self._is_half_uploaded(inside):
            raise Missed("the upload has ended")

    def _go(self) -> None:
        inside = Inside(self.host)
        if inside.path(faulty.FOLDER).exists():
            inside.path(faulty.GO).touch()
        self._let_sessions_go_on(inside)

    def _let_sessions_go_on(self, inside: Inside) -> None:
        for one in inside.sessions():
            one.signal(signal.SIGCONT)

    def _second(self) -> int:
        """Another operator on another laptop: an upgrade to another release, or a check where the host is unclaimed."""
        has = self.case.has_the_host
        words = self._upgrade(self.case.other) if has else ("check", str(self.case.other))
        second = self._controllers.start(self.lab, *words, "-l", self.host.name)
        code = second.wait(COMMAND_S)
        self._judge_code("second", code, second)
        self.result.check(code != 0 or not has, f"the second fleet was let in: {second.last}")
        return code

    # The ending

    def _end(self) -> None:
        """The operator names the rollout that met the fault: another one may be the newest that the host knows."""
        if self.case.ending is Ending.ROLLBACK:
            ended = self._run("rollback", "rollback", *(self._rollout or (NO_ROLLOUT,)), *WAY_BACK)
        else:
            ended = self._run("resume", "resume", *(self._rollout or (NO_ROLLOUT,)), "-y", "--commit", "end")
            if any(words in ended.said for words in UNKNOWN_ROLLOUT):  # the fault came before anything was written down
                ended = self._run("resume", *self._upgrade(self.case.target))
        wanted = wanted_end(self.case, self.result, ended)
        self.result.check(
            ended.code in wanted.codes, f"the ending: exit {ended.code}, not {wanted.codes}: {ended.last}"
        )
        self._let_stopped_go_on()
        self.result.ended = "DOWN" if self.result.is_down else self._must_be_whole(wanted)

    def _let_stopped_go_on(self) -> None:
        """A step script that was stopped and is still there wakes up: too late to do any harm."""
        for one in scripts(self.host):
            if one.state in "Tt":
                self.result.notes.append("the stopped step script was still there")
                one.signal(signal.SIGCONT)
        until_quiet(self.host)

    def _must_be_whole(self, wanted: Wanted) -> str:
        """The phase that status says."""
        told = self._status()
        phases: tuple[str, ...] = (wanted.phase,)
        if told["rollout"] != "".join(self._rollout) and wanted.phase == "OLD":
            phases = ("OLD", "NEW")  # it was never begun: the host is as the rollout before it has left it
        must_be_whole(self.host, told, self.result, phases, sha256(wanted.serves))
        return str(told["phase"])

    # Commands

    def _upgrade(self, release: Path, commit: str = "end") -> tuple[str, ...]:
        times = ("--bake", f"{self.case.bake_s:g}s", "--settle", f"{self.case.settle_s * 1000:.0f}ms", *WAY_BACK[1:])
        return ("upgrade", str(release), "-y", *times, "--batches", "100%", "--on-failure", "halt", "--commit", commit)

    def _start(self, *words: str, faulty: bool = False) -> Controller:
        # One laptop for each host: another's run that has just ended would keep this one out until its claim is void.
        laptop = f"{self.lab.name}-{self.host.name}"
        return self._controllers.start(self.lab, *words, "-l", self.host.name, faulty=faulty, journal=laptop)

    def _run(self, name: str, *words: str, expected: tuple[int, ...] = ()) -> Controller:
        ran = self._start(*words)
        code = ran.wait(COMMAND_S)
        self._judge_code(name, code, ran)
        if expected:
            self.result.check(code in expected, f"{name}: exit {code}, not {expected}: {ran.last}")
        return ran

    def _judge_code(self, name: str, code: int, ran: Controller) -> None:
        self.result.codes[name] = code
        self.result.check(code != BUG and "Traceback" not in ran.said, f"{name}: a bug in fleet: {ran.said}")

    def _status(self) -> dict[str, Any]:
        said = self._run("status", "status", "--json").said
        document = json.JSONDecoder().raw_decode(said[said.index("{") :])[0]
        host: dict[str, Any] = document["hosts"][0]
        return host


@cache
def packed_size(release: Path) -> int:
    """How many bytes of a release go over the wire."""
    return len(compressed_release(release).data)


def rollout_in(said: Controller) -> tuple[str, ...]:
    """The id of the rollout that an upgrade said that it is; nothing when it did not come so far."""
    return tuple(re.findall(r"^Rollout (\d{8}-\d{4}-\w+) by ", said.said, re.MULTILINE)[:1])


def wanted_end(case: Case, result: Result, ended: Controller) -> Wanted:
    """Where the ending must lead. A resume continues an interrupted rollback as a rollback."""
    resumed_back = case.moment.scene is Scene.ROLLBACK and any(
        word in ended.said for word in ("interrupted rollback", "was rolled back")
    )
    is_back = case.ending is Ending.ROLLBACK or resumed_back
    codes: tuple[int, ...] = (0,)
    if result.is_down:
        # A host that died before the rollout had it is refused, or there is nothing to undo on it.
        codes = (PERSON,) if case.has_the_host else (0, REFUSED, PERSON)
    elif is_back and (case.ending is Ending.RESUME or not case.has_the_host):
        codes = (0, REFUSED)  # taken back wholly, there is nothing to go on with; or no host knows of it
    must_be_back = is_back or (case.is_strict and case.moment.scene is Scene.ROLLBACK)
    return Wanted("OLD" if must_be_back else "NEW", case.base if must_be_back else case.target, codes)
