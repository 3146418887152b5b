"""Plays one cell of the unit table on a host of each kind, all of them at once.

fleet's own work is done by one command for all hosts; the outsider acts on each of them at the same moment. What is wrong
is said in words and never raised, so that a host that fails hides nothing of the others.
"""

import json
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fleet.errors import FleetError
from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import PACKAGED
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE
from fleet.lab.traffic.client import SLOW
from fleet.lab.traffic.load import Traffic, TrafficReport, What
from tests.support.lab.inside import Inside
from tests.support.lab.operator import Ran, fleet, sha256, start
from tests.support.lab.unit_cells import MANNERS, Action, Cell, State
from tests.support.lab.unit_outsider import Outsider, Packages, make_plain, unit
from tests.support.lab.unit_shown import Main, Shown
from tests.support.private_nginx import wait_until

T = TypeVar("T")
AT_ONCE = 6
RATE_PER_S = 20.0
SLOW_S = 2.0
LEASE_S = 20.0
SETTLE = "300ms"
LONG_SETTLE = "12s"
REACH_S = 120.0
GUARD = "/run/systemd/system/nginx.service.d/zz-fleet.conf"
QUICK = ("-y", "--settle", SETTLE, "--batches", "100%", "--on-failure", "halt", "--rehearse", "off")
NEVER = ("--bake", "0s", "--commit", "never")
RELOADS = (State.RELOADED, State.RELOADED_BACK, State.RELOADED_COMMITTED)
TAKEN_BACK = (State.BACK, State.RELOADED_BACK)


@dataclass(slots=True)
class Round:
    """One cell. `hosts` are those that play it; each has kept what it was at first."""

    cell: Cell
    lab: Lab
    hosts: Sequence[LabHost]
    release: Path
    packages: Packages
    shown: dict[str, Shown] = field(default_factory=dict)

    def play(self) -> tuple[Shown, ...]:
        """What each host showed, in their order."""
        self.shown = {host.name: Shown(host.kind or "", self.cell) for host in self.hosts}
        self._each(make_plain)
        targets = {host.name: f"{host.address}:80" for host in self.hosts}
        clients = Traffic(
            targets,
            rate_per_s=RATE_PER_S,
            keepalive=1,
            keepalive_rate_per_s=2.0,
            slow=self.cell.action is Action.STOP,
            slow_s=SLOW_S,
        )
        with clients as traffic:
            traffic.mark("reach")
            self._reach_and_act(traffic)
            told = self._status()
            self._each(lambda host: self._look(host, told[host.name]))
            traffic.mark("end")
            self._take_back(told)
            traffic.mark("done")
            report = traffic.stop()
        for host in self.hosts:
            self._count(host, report)
        return tuple(self.shown[host.name] for host in self.hosts)

    # The state, and the action in it

    def _reach_and_act(self, traffic: Traffic) -> None:
        if self.cell.state is State.VERIFYING:
            self._during(("--settle", LONG_SETTLE), lambda host: self._outsider(host).is_verifying(), traffic)
            return
        if self.cell.action is Action.LEASE:
            lease = ("--lease", f"{LEASE_S:g}s", "--bake", "90s", "--commit", "end")
            self._during(lease, lambda host: self._outsider(host).is_held(), traffic)
            return
        if self.cell.state is not State.UNTOUCHED:
            self._fleet("upgrade", str(self.release), *QUICK, *NEVER)
        if self.cell.state in RELOADS:
            self._each(lambda host: self._outsider(host).act(Action.RELOAD))
        if self.cell.state in TAKEN_BACK:
            self._fleet("rollback", "-y")
        elif self.cell.state in (State.COMMITTED, State.RELOADED_COMMITTED):
            self._fleet("commit", "-y", "--drain-timeout", "20s")
        traffic.mark("act")
        self._each(self._act)

    def _during(self, words: tuple[str, ...], is_due: Callable[[LabHost], bool], traffic: Traffic) -> None:
        """The action comes while fleet is at work. A lease runs out once its controller has been killed."""
        with_lease = "--lease" in words
        running = start(self.lab, "upgrade", str(self.release), *QUICK, *(words if with_lease else (*NEVER, *words)))
        with running:
            try:
                self._each(lambda host: wait_until(lambda: is_due(host), f"{host.name} at its moment", REACH_S))
                traffic.mark("act")
                if with_lease:
                    running.send_signal(signal.SIGKILL)
                    self._each(self._wait_for_lease)
                else:
                    self._each(self._act)
                running.communicate(timeout=REACH_S)
            finally:
                with suppress(ProcessLookupError):
                    running.kill()

    def _wait_for_lease(self, host: LabHost) -> None:
        def has_gone_back() -> bool:
            inside = Inside(host)
            return len(inside.masters()) == 1 and not inside.watchers()

        wait_until(has_gone_back, f"{host.name} back by its lease", LEASE_S * 4)
        self._outsider(host).rest()

    def _act(self, host: LabHost) -> None:
        shown = self.shown[host.name]
        shown.code, shown.said = self._outsider(host).act(self.cell.action)

    # The result

    def _look(self, host: LabHost, told: dict[str, Any]) -> None:
        shown, outsider, now = self.shown[host.name], self._outsider(host), unit(host)
        shown.main, shown.active, shown.restarts = outsider.main(now.main_pid), now.active, now.restarts
        shown.masters = len(Inside(host).masters())
        shown.serves = host.exec(["python3", "-c", ASKS]).returncode == 0
        shown.phase, shown.guard = str(told["phase"]), bool((told["unit"] or {}).get("guard"))
        shown.follows = bool((told["unit"] or {"follows": True})["follows"])
        shown.committed_by = told["committed_by"] or ""

    def _take_back(self, told: Mapping[str, dict[str, Any]]) -> None:
        """What the operator types then: fleet's own line where nginx is gone, and a rollback where he has not yet."""
        self._each(lambda host: self._start_as_told(host, told[host.name]))
        if self.cell.state is State.UNTOUCHED:
            return
        if self.cell.action is Action.NEWER:
            self._leave_the_package()
            return
        ran = self._fleet("rollback", "-y") if self.cell.state not in TAKEN_BACK else None
        after = self._status()
        self._each(lambda host: self._must_be_whole(host, after[host.name], ran))
        if self.cell.state is State.RELOADED:
            self._each(self._must_take_a_reload)

    def _leave_the_package(self) -> None:
        """A rollback does not overwrite the package's file unless it is told to; what the package has started stays."""
        ran = self._fleet("rollback", "-y") if self.cell.state is State.HELD else None
        self._each(lambda host: self._must_have_the_package(host, ran))
        if ran is not None:
            self._fleet("rollback", "-y", "--allow", "path-changed")
        after = self._status()
        for host in self.hosts:
            self.shown[host.name].ended = str(after[host.name]["phase"])
            if ran is not None:
                self._must_be_whole(host, after[host.name], ran)

    def _must_have_the_package(self, host: LabHost, ran: Ran | None) -> None:
        shown, packaged = self.shown[host.name], self.packages.binary_sha256
        if sha256(Inside(host).path(PACKAGED.program)) != packaged:
            shown.faults.append("the package's file is not at its path")
        if ran is not None and (not ran.code or "path_changed" not in ran.said):
            shown.faults.append(f"rollback ended {ran.code}: {_about(host, ran)}")
        if ran is None and not self._outsider(host).masters(packaged):
            shown.faults.append("the package's nginx does not run")

    def _start_as_told(self, host: LabHost, told: dict[str, Any]) -> None:
        shown = self.shown[host.name]
        if shown.masters or self.cell.state is State.UNTOUCHED:
            return
        line = told["start_command"]
        shown.note = f"start it: {line}"
        if told["orphans"]:
            host.sh("kill -QUIT " + " ".join(map(str, told["orphans"])))
        done = host.exec(["/bin/sh", "-c", line or "exit 99"])
        if done.returncode != 0:
            shown.faults.append(f"`{line}` ended {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
        self._outsider(host).rest()
        if MANNERS[shown.kind].guards and unit(host).active != "active":
            shown.faults.append(f"after `{line}` the unit is {unit(host).active}")

    def _must_be_whole(self, host: LabHost, told: dict[str, Any], ran: Ran | None) -> None:
        """One master of the release before, which systemd follows, and nothing of fleet's in the unit."""
        shown, outsider = self.shown[host.name], self._outsider(host)
        shown.ended = str(told["phase"])
        masters, now = Inside(host).masters(), unit(host)
        is_one = len(masters) == 1 and masters[0].image_sha256 == outsider.old
        found = [] if is_one else [f"{len(masters)} masters after the way back"]
        found += [] if shown.ended == "OLD" else [f"status says {shown.ended} after the way back"]
        # systemd's own doing after a failed unit is no fault of the way back.
        if MANNERS[shown.kind].follows and now.active == "active" and outsider.main(now.main_pid) is not Main.OLD:
            found.append(f"after the way back MainPID is {outsider.main(now.main_pid).value}")
        if Inside(host).path(GUARD).exists():
            found.append("the guard is left")
        if found and ran is not None and ran.code:
            found.append(f"rollback ended {ran.code}: {_about(host, ran)}")
        shown.faults += found

    def _must_take_a_reload(self, host: LabHost) -> None:
        """The unit is as it was: its reload ends well, and it runs on."""
        shown = self.shown[host.name]
        if not MANNERS[shown.kind].guards:
            return
        code, said = self._outsider(host).act(Action.RELOAD)
        now, masters = unit(host), Inside(host).masters()
        if code or now.active != "active" or len(masters) != 1:
            shown.faults.append(f"a reload after the way back: {code} {said}, {now.active}, {len(masters)} masters")

    def _count(self, host: LabHost, report: TrafficReport) -> None:
        shown = self.shown[host.name]
        reach, act, end = (report.between(*two) for two in (("reach", "act"), ("act", "end"), ("end", "done")))
        short = ("new", "keepalive")
        shown.before = sum(reach.failed(client, host.name) for client in short)
        shown.lost = sum(act.failed(client, host.name) for client in short)
        shown.after = 0 if not shown.masters else sum(end.failed(client, host.name) for client in short)
        shown.asked = sum(act.requests(client, host.name) for client in short)
        # A download that the action cuts began before it, also before fleet's own work.
        slow = [each for each in report.failures if (each.host, each.client) == (host.name, SLOW)]
        shown.cut = sum(each.at_s < act.from_s or each.what is What.SHORT for each in slow)
        if report.withheld:
            shown.faults.append("the clients could not keep pace: the count is useless")

    # Tools

    def _outsider(self, host: LabHost) -> Outsider:
        return Outsider(host, sha256(DEFAULT_BASE), sha256(self.release), self.packages.binary_sha256)

    def _each(self, act: Callable[[LabHost], object]) -> None:
        """Do it on all hosts at once; what goes wrong is a fault of that host."""

        def one(host: LabHost) -> None:
            try:
                act(host)
            except (AssertionError, FleetError, OSError, ValueError, KeyError) as error:
                self.shown[host.name].faults.append(f"{type(error).__name__}: {error}")

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(one, self.hosts))

    def _fleet(self, *words: str) -> Ran:
        """What fleet did on these hosts; a code that is not 0 is said of every host whose name it mentions."""
        ran = fleet(self.lab, *words, "-l", ",".join(host.name for host in self.hosts))
        if ran.code != 0 and words[0] != "rollback":
            for host in self.hosts:
                self.shown[host.name].faults.append(f"{words[0]} ended {ran.code}: {_about(host, ran)}")
        return ran

    def _status(self) -> dict[str, dict[str, Any]]:
        ran = self._fleet_status()
        return {host["name"]: host for host in json.loads(ran.out)["hosts"]}

    def _fleet_status(self) -> Ran:
        ran = fleet(self.lab, "status", "--json", "-l", ",".join(host.name for host in self.hosts))
        assert ran.code in (0, 4), ran.said
        return ran


ASKS = "from urllib.request import urlopen; urlopen('http://127.0.0.1/health', timeout=3).read()"


def _about(host: LabHost, ran: Ran) -> str:
    lines = [line.strip() for line in ran.said.splitlines() if host.name in line]
    return (lines or ran.said.strip().splitlines() or ["nothing said"])[-1][:400]
