"""`fleet demo`: a good release, a bad one twice, and a rollback of the whole fleet, on pretend hosts under load.

The bad release meets both lines of defence: the rehearsal, which refuses it on every host, and, with the rehearsal switched
off, the canary, which goes back by itself.

Every promise is checked against what the hosts report and what the clients counted. The exit code is 0 only if all
promises were kept. The lab is removed at the end, however the demo ends.
"""

import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from types import FrameType

from rich.rule import Rule
from rich.text import Text

from fleet.commands import rollback, upgrade
from fleet.environment import CommandOptions, Environment
from fleet.journal.journal import Journal
from fleet.lab.lab import Lab
from fleet.lab.processes import this_process
from fleet.lab.releases.build import make_release
from fleet.lab.traffic.load import Traffic, TrafficReport
from fleet.onhost.protocol import Phase
from fleet.rollout import results
from fleet.rollout.from_hosts import newest
from fleet.rollout.host_status import FaultKind
from fleet.rollout.rollout_status import RolloutStatus, fold
from fleet.runs.engine_run import command_output, look_at, selected_hosts
from fleet.ui import status_table
from fleet.ui.output import Output

HOSTS = 6
GOOD, BAD = "1.22.9", "1.22.8"
QUICK = upgrade.UpgradeOptions(batches="1,2,3", bake_s=1.0, settle_s=0.5, drain_timeout_s=60.0)


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise of the demo, and what was found."""

    what: str
    found: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """What every part of the demo needs."""

    environment: Environment
    options: CommandOptions
    output: Output
    traffic: Traffic
    folder: Path

    def say(self, text: str) -> None:
        """Prints a heading on stdout."""
        self.output.result(Rule(text, style="bold", align="left"))

    def look(self) -> RolloutStatus:
        """Asks the hosts for their state, and prints it as a table."""
        look = look_at(self.environment, self.output, selected_hosts(self.options, self.output), self.options)
        self.output.result(status_table.table(look))
        return look


def run(environment: Environment, name: str) -> int:
    """Returns 0 if every promise was kept, 3 if not, 130 if interrupted."""
    began_s = time.monotonic()
    output = command_output(CommandOptions())
    try:
        with _signals_interrupt(), tempfile.TemporaryDirectory(prefix="fleet-demo-") as folder:
            promises, last = _show(environment, name, Path(folder), output)
    except KeyboardInterrupt:
        sys.stderr.write("fleet: Interrupted. The demo's lab is removed.\n")
        return results.INTERRUPTED
    output.result(Rule(f"promised, and found ({time.monotonic() - began_s:.0f} s)", align="left"))
    for promise in promises:
        output.result(Text(f"{'kept  ' if promise.kept else 'BROKEN'}  {promise.what}: {promise.found}"))
    output.result(status_table.table(last))
    return results.OK if all(promise.kept for promise in promises) else results.HALTED


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP end the demo as Ctrl-C does, so that its lab is removed."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(environment: Environment, name: str, folder: Path, output: Output) -> tuple[list[Promise], RolloutStatus]:
    """Every promise with what was found, and the hosts' last state."""
    lab = Lab.up(name, HOSTS, owner=this_process())
    try:
        targets = {host.name: f"{host.address}:80" for host in lab.hosts}
        options = CommandOptions(inventories=(lab.inventory,), yes=True, journal=str(folder / "journal.db"))
        with Traffic(targets) as traffic:
            stage = Stage(environment, options, output, traffic, folder)
            stage.say(f"a lab of {HOSTS} hosts with nginx, and clients that send requests to each of them all the time")
            before = stage.look()
            promises, rollout, upgraded = _good_release(stage)
            path = make_release("errors", folder / "bad", version=BAD)
            promises += _refused_release(stage, path, upgraded)
            promises += _unrehearsed_release(stage, path, upgraded)
            back_again, last = _way_back(stage, before, rollout)
            report = traffic.stop()
    finally:
        lab.down()
    return [*promises, *back_again, *_counted(report)], last


def _refused_release(stage: Stage, path: Path, before: RolloutStatus) -> list[Promise]:
    stage.say(f"2. a bad release ({BAD} answers 500): every host rehearses the upgrade, and refuses it")
    stage.traffic.mark("refused")
    code = upgrade.run(stage.environment, stage.options, str(path), QUICK)
    _stop_if_interrupted(code)
    refused = _hosts_that_refused(stage.options)
    every = f"exit code {code}, refused by {refused} of {len(before.hosts)}"
    return [
        Promise(
            "every host refuses the bad release in its rehearsal, exit code 2",
            every,
            code == results.REFUSED and refused == len(before.hosts),
        ),
        _same("after it, every host runs what it ran before", before, stage.look()),
    ]


def _hosts_that_refused(options: CommandOptions) -> int:
    """How many hosts refused the newest rollout in preflight."""
    with Journal.open(options.journal) as journal:
        newest = journal.rollouts()[0]
        status = reduce(fold, journal.events(newest.rollout, newest.runs[-1].run), RolloutStatus())
    return sum(host.fault is not None and host.fault.kind is FaultKind.REFUSED for host in status.all)


def _unrehearsed_release(stage: Stage, path: Path, before: RolloutStatus) -> list[Promise]:
    stage.say("3. once more with --rehearse off, as if no rehearsal could show its defect: the first host goes back")
    stage.traffic.mark("bad")
    code = upgrade.run(stage.environment, stage.options, str(path), replace(QUICK, rehearse="off"))
    stage.traffic.mark("back")
    _stop_if_interrupted(code)
    return [
        Promise("without a rehearsal it is rolled back, exit code 3", f"exit code {code}", code == results.HALTED),
        _same("after that, too, every host runs what it ran before", before, stage.look()),
    ]


def _good_release(stage: Stage) -> tuple[list[Promise], str | None, RolloutStatus]:
    """The promises with what was found, the rollout's id, and the hosts' state after it."""
    stage.say(f"1. a good release ({GOOD}), batch by batch, committed at the end")
    stage.traffic.mark("good")
    path = make_release("new", stage.folder / "good", version=GOOD)
    code = upgrade.run(stage.environment, stage.options, str(path), QUICK)
    _stop_if_interrupted(code)
    after = stage.look()
    promises = [
        Promise("the good release is completed, exit code 0", f"exit code {code}", code == results.OK),
        _all_are(f"every host is NEW and runs {GOOD}", after, Phase.NEW, GOOD),
    ]
    return promises, newest(after), after


def _way_back(stage: Stage, before: RolloutStatus, rollout: str | None) -> tuple[list[Promise], RolloutStatus]:
    stage.say("4. a rollback of the whole fleet, although the good release was committed")
    began_s = time.monotonic()
    code = rollback.run(stage.environment, stage.options, rollout, drain_timeout_s=QUICK.drain_timeout_s, cut=False)
    took_s = time.monotonic() - began_s
    stage.traffic.mark("end")
    _stop_if_interrupted(code)
    after = look_at(stage.environment, stage.output, selected_hosts(stage.options, None), stage.options)
    found = f"exit code {code}, {took_s:.1f} s"
    promises = [
        Promise("the rollback ends with exit code 0", found, code == results.OK),
        _same("after it, every host runs what it ran at the start", before, after),
    ]
    return promises, after


def _stop_if_interrupted(code: int) -> None:
    """Interrupts the demo if the run was interrupted."""
    if code == results.INTERRUPTED:
        raise KeyboardInterrupt


def _same(what: str, before: RolloutStatus, after: RolloutStatus) -> Promise:
    good = 0
    for host in after.all:
        then, now = before.hosts[host.name].report, host.report
        if then is None or now is None or len(now.masters) != 1:
            continue
        good += (then.running_sha256, then.path_sha256) == (now.running_sha256, now.path_sha256)
    return Promise(what, f"{good} of {len(after.hosts)}, process and file", good == len(after.hosts))


def _all_are(what: str, after: RolloutStatus, phase: Phase, version: str) -> Promise:
    good = 0
    for host in after.all:
        report = host.report
        if report is not None and report.phase is phase and report.running_version == version:
            good += report.path_sha256 == report.running_sha256
    return Promise(what, f"{good} of {len(after.hosts)}, process and file", good == len(after.hosts))


def _counted(report: TrafficReport) -> list[Promise]:
    """What the clients counted while each part ran; while the unrehearsed release ran, on the other hosts."""
    spans = (("good", "refused"), ("refused", "bad"), ("bad", "back"), ("back", "end"))
    good, refused, bad, back_again = (report.between(*span) for span in spans)
    canary = report.hosts[0]
    met = bad.failed(host=canary)
    elsewhere = bad.failed() - met
    lost, requests = good.failed() + back_again.failed(), good.requests() + back_again.requests()
    found = f"{lost} failed of {requests}, {good.rate:.0f} new connections/s on each host"
    other = f"{elsewhere} failed of {bad.requests()}; on {canary} {met} reached the bad release before it was dismissed"
    return [
        Promise("no request fails during the good release and the rollback", found, lost == 0),
        Promise(
            "no request meets the release that was refused",
            f"{refused.failed()} failed of {refused.requests()}",
            refused.failed() == 0,
        ),
        Promise("without a rehearsal, no request to another host fails", other, elsewhere == 0),
    ]
