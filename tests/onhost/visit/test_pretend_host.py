"""The pretend host against the real step script: the same requests to both, over a real nginx, get the same answers."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.lab.releases.build import make_release
from fleet.onhost.instance import Instance
from fleet.onhost.protocol import (
    MAY_DO,
    PROTOCOL,
    Ask,
    Goal,
    Layout,
    Options,
    Outcome,
    Phase,
    Probe,
    Report,
    Request,
    Rest,
    Sender,
)
from fleet.onhost.state.fence import claim_of
from fleet.onhost.state.lease import lease_of
from fleet.onhost.state.store import InstanceStore, Store
from fleet.onhost.state.watched import WATCH_LOCK
from fleet.onhost.system.machine import Machine
from fleet.onhost.visit.answer import go_back_by_lease
from fleet.onhost.visit.dispatch import serve
from tests.onhost.visit.test_dispatch import Host
from tests.support.pretend.visit import WELL, Controller, Killed, Mishap
from tests.support.pretend.visits import AT, NEW, OLD, Pretend

LEASE_S = 60.0
OTHER = "f" * 64


class Clock(Machine):
    """The real machine, but for its clock's lead and its boot, which are moved by hand."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self.boot = "boot-1"

    def boottime_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) + self.ahead_s

    def boot_id(self) -> str:
        return self.boot


@dataclass
class Both:
    """A real host and a pretend one, each asked the same."""

    host: Host
    old: str
    machine: Clock = field(default_factory=Clock)
    at: float = 0.0
    pretend: Pretend = field(init=False)

    def __post_init__(self) -> None:
        self.pretend = Pretend("web-01", lambda: AT + timedelta(seconds=self.at))

    @property
    def own(self) -> InstanceStore:
        return Store(self.machine, str(self.host.state_dir)).instance(str(self.host.nginx.pid_file))

    def ask(self, ask: Ask, mishap: Mishap = WELL, **more: Any) -> tuple[Outcome | None, str | None]:
        """What both answered, which is the same, and leaves both the same."""
        pretended = self._pretend(a_request(ask, NEW, **more), mishap)
        real = self._real(a_request(ask, self.host.target, **more), mishap)
        assert real == pretended
        return real

    def _pretend(self, request: Request, mishap: Mishap) -> tuple[Outcome | None, str | None]:
        try:
            end = self.pretend.answer(request, mishap)
        except Killed:
            return None, None
        return end.outcome, end.reason

    def _real(self, request: Request, mishap: Mishap) -> tuple[Outcome | None, str | None]:
        layout = Layout(pid_file=str(self.host.nginx.pid_file), state_dir=str(self.host.state_dir))
        probes = (Probe(f"http://{self.host.nginx.target}/health"),)
        request = request._replace(layout=layout, options=request.options._replace(probes=probes))
        controller = Controller(request, mishap)
        try:
            end, _ = serve(self.machine, request, controller.say, controller.go_on)
        except Killed:
            return None, None
        return end.outcome, end.reason

    def look(self) -> None:
        """Both say the same of themselves."""
        layout = Layout(pid_file=str(self.host.nginx.pid_file), state_dir=str(self.host.state_dir))
        asked = a_request(Ask.LOOK, NEW)._replace(layout=layout)
        _, report = serve(self.machine, asked, lambda reply: None, lambda: None)
        assert report is not None
        words = {self.old: "old", self.host.target: "new", OLD: "old", NEW: "new"}
        assert told(report, words) == told(self.pretend.report(), words)

    def pass_time(self, seconds: float) -> None:
        """Time passes on both; a lease that runs out is minded."""
        self.at += seconds
        self.machine.ahead_s += seconds
        self.pretend.mind_lease()
        found = lease_of(self.own)
        if found is not None and found.until_s <= self.machine.boottime_s():
            layout, record = self.own.layout, self.own.record
            assert layout is not None
            assert record is not None
            go_back_by_lease(Instance.at(self.machine, layout), record, found)

    def boot(self) -> None:
        """Both are switched off and on."""
        self.pretend.boot()
        self.end_nginx()
        self.machine.boot = "boot-2"
        self.host.nginx.pid_file.unlink(missing_ok=True)
        self.host.nginx.pid_file.with_name("nginx.pid.oldbin").unlink(missing_ok=True)
        self.host.nginx.start_well()

    def end_nginx(self) -> None:
        """No process of nginx is left on either."""
        while self.host.nginx.processes():
            for pid in self.host.nginx.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def quit_old(self) -> None:
        """End the held old master by hand."""
        old = self.host.nginx.master(".oldbin")
        os.kill(old, signal.SIGQUIT)
        self.host.nginx.wait_for_end(old)
        self.pretend.model = self.pretend.model.quit_old()


def a_request(
    ask: Ask,
    target: str,
    rollout: str = "r1",
    epoch: int = 1,
    journal: str = "desk",
    release: str | None = None,
    left_at: Phase | None = None,
    reopen: bool = False,
    force: bool = False,
    lease_s: float = 0.0,
) -> Request:
    goal = Goal(release or target, Rest.HELD) if ask in (Ask.UPGRADE, Ask.STAGE) else None
    return Request(
        PROTOCOL,
        ask,
        rollout,
        epoch,
        f"ada@{journal}",
        goal,
        MAY_DO[ask],
        options=Options(settle_s=0.2, allow=("pending-config",), rehearse=False),
        left_at=left_at,
        take_over=ask is Ask.ROLLBACK,
        reopen=reopen,
        force=force,
        claim_s=600.0,
        lease_s=lease_s,
        sender=Sender(journal, journal, 71),
    )


def told(report: Report, words: dict[str, str]) -> dict[str, object]:
    """What the controller goes by in a report, with the releases by name."""
    records = [
        one and (one.rollout, one.epoch, one.state, words.get(one.target), words.get(one.before_process))
        for one in (report.record, report.previous)
    ]
    return {
        "phase": report.phase,
        "masters": [(words.get(one.sha256 or ""), one.is_old, bool(one.workers)) for one in report.masters],
        "path": words.get(report.path_sha256 or ""),
        "running": words.get(report.running_sha256 or ""),
        "held": report.held,
        "records": records,
        "why": bool(report.record and report.record.why),
        "epoch": report.epoch,
        "claim": report.claim and (report.claim.rollout, report.claim.journal),
        "has_lease": report.lease_left_s is not None,
        "unconfirmed": report.unconfirmed,
        "undo": bool(report.undo),
    }


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


@pytest.fixture
def both(tmp_path: Path, release: Path) -> Iterator[Both]:
    host = Host.on(tmp_path, release)
    yield Both(host, host.sha256())
    host.nginx.end()


Story = Callable[[Both], None]


def forth_and_back(both: Both) -> None:
    both.ask(Ask.STAGE)
    both.ask(Ask.UPGRADE)
    both.look()
    both.ask(Ask.BAKE, left_at=Phase.TRIAL)
    both.ask(Ask.COMMIT, left_at=Phase.TRIAL)
    both.look()
    assert both.ask(Ask.STAGE, rollout="r2", epoch=2)[1] == "runs_it"
    assert both.ask(Ask.UPGRADE, rollout="r2", epoch=2)[1] == "runs_it"
    both.ask(Ask.ROLLBACK)
    both.look()
    assert both.ask(Ask.UPGRADE, epoch=9)[1] == "taken_over"
    both.ask(Ask.ROLLBACK)
    both.look()


def undone_before_it_began(both: Both) -> None:
    assert both.ask(Ask.ROLLBACK)[1] == "nothing_to_undo"
    both.look()
    assert both.ask(Ask.UPGRADE, epoch=9)[1] == "taken_over"
    assert both.ask(Ask.UPGRADE, epoch=1, reopen=True)[1] == "taken_over"
    assert both.ask(Ask.UPGRADE, epoch=9, reopen=True)[1] == "taken_over"  # by an operator, so for good
    both.look()
    assert both.ask(Ask.ROLLBACK, rollout="r9")[1] == "nothing_to_undo"
    both.look()


def of_two_journals(both: Both) -> None:
    both.ask(Ask.UPGRADE)
    assert both.ask(Ask.STAGE, rollout="r2", journal="sofa")[1] == "claimed"
    assert both.ask(Ask.COMMIT, journal="sofa")[1] == "claimed"
    assert both.ask(Ask.UNLOCK, rollout="unlock", journal="sofa")[1] == "claimed"
    both.ask(Ask.UPGRADE, rollout="r2", epoch=2, journal="sofa", force=True)
    both.look()
    assert both.ask(Ask.BAKE)[1] == "taken_over"
    assert both.ask(Ask.ROLLBACK)[1] == "other_rollout"
    both.ask(Ask.ROLLBACK, rollout="r2")
    both.look()


def in_progress(both: Both) -> None:
    both.ask(Ask.UPGRADE)
    assert both.ask(Ask.UPGRADE, rollout="r2", epoch=2, release=OTHER)[1] == "upgrade_in_progress"
    assert both.ask(Ask.COMMIT, rollout="r2", epoch=3)[1] == "other_rollout"
    both.look()


def the_lease_runs_out(both: Both) -> None:
    both.ask(Ask.UPGRADE, lease_s=LEASE_S)
    both.look()
    both.pass_time(LEASE_S - 20.0)
    both.ask(Ask.BAKE, left_at=Phase.TRIAL, lease_s=LEASE_S)
    both.pass_time(LEASE_S - 20.0)
    both.look()
    both.pass_time(LEASE_S)
    both.look()
    assert both.ask(Ask.BAKE, left_at=Phase.TRIAL, lease_s=LEASE_S)[1] == "went_back"
    assert both.ask(Ask.UPGRADE, lease_s=LEASE_S)[1] == "went_back"
    assert both.ask(Ask.COMMIT)[1] == "went_back"
    both.ask(Ask.UPGRADE, epoch=2, reopen=True, lease_s=LEASE_S)
    both.look()
    both.ask(Ask.COMMIT, epoch=2)
    both.look()
    assert claim_of(both.own) is None


def a_boot_while_held(both: Both) -> None:
    both.ask(Ask.UPGRADE, lease_s=LEASE_S)
    both.boot()
    both.look()
    both.pass_time(2 * LEASE_S)
    both.ask(Ask.STAGE)
    both.ask(Ask.COMMIT)
    both.look()


def ended_by_hand(both: Both) -> None:
    both.ask(Ask.UPGRADE)
    both.quit_old()
    both.look()
    both.ask(Ask.UPGRADE, epoch=2)
    both.look()
    both.ask(Ask.ROLLBACK)
    both.look()


def all_of_it_is_gone(both: Both) -> None:
    both.ask(Ask.UPGRADE)
    both.end_nginx()
    both.pretend.model = both.pretend.model.kill_new().kill_old().sweep()
    assert both.ask(Ask.BAKE)[1] == "down"
    assert both.ask(Ask.COMMIT)[1] == "down"
    assert both.ask(Ask.ROLLBACK)[1] == "down"
    both.look()


STORIES: tuple[Story, ...] = (
    forth_and_back,
    undone_before_it_began,
    of_two_journals,
    in_progress,
    the_lease_runs_out,
    a_boot_while_held,
    ended_by_hand,
    all_of_it_is_gone,
)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_pretend_host_answers_as_a_real_one(story: Story, both: Both) -> None:
    both.own.make()
    with both.own.lock(1.0, WATCH_LOCK):  # so that no watcher is started for the leases: this test is it
        story(both)


@pytest.mark.parametrize("steps", range(5))
@pytest.mark.parametrize("way", ["killed", "turned"])
def test_a_visit_that_breaks_off_leaves_both_alike_and_either_way_on_is_the_same(
    way: str, steps: int, both: Both
) -> None:
    mishap = Mishap(killed_after=steps) if way == "killed" else Mishap(turns_after=steps, why="controller_gone")

    both.ask(Ask.UPGRADE, mishap)
    both.look()
    both.ask(Ask.STAGE, epoch=2)
    both.ask(Ask.UPGRADE, epoch=2)
    both.look()
    both.ask(Ask.ROLLBACK, mishap)
    both.look()
    both.ask(Ask.ROLLBACK)
    both.look()
