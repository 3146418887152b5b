"""What stage found is not tried again by the upgrade, unless anything that it follows from has changed."""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fleet.lab.releases.build import make_release
from fleet.onhost.instance import Instance
from fleet.onhost.nginx.error_log import POISON
from fleet.onhost.preflight.checks import preflight
from fleet.onhost.preflight.earlier import EARLIER, HOLDS_S
from fleet.onhost.protocol import MAY_DO, PROTOCOL, Ask, Goal, Options, Probe, Request, Rest
from fleet.onhost.state.store import Store
from fleet.onhost.system.machine import Machine, Ran
from fleet.onhost.visit.locate import locate
from tests.onhost.preflight.test_checks import Nginx, nginx, release
from tests.support.private_nginx import wait_until

__all__ = ["nginx", "release"]
LINE = "2030/01/01 10:00:00 [alert] %d#0: %s"


class Host(Machine):
    """This host. `ran` are the programs that were started; a test may move its clock, boot it and fill its disk."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, ...]] = []
        self.later_s = 0.0
        self.boot = "boot-1"
        self.is_full = False

    def run(self, argv: tuple[str, ...], timeout_s: float, env: dict[str, str] | None = None, cwd: str = "/") -> Ran:
        self.ran.append(argv)
        return super().run(argv, timeout_s, env, cwd)

    def boottime_s(self) -> float:
        return super().boottime_s() + self.later_s

    def boot_id(self) -> str:
        return self.boot

    def room(self, path: str) -> os.statvfs_result | None:
        room = super().room(path)
        fields = list(room or ())
        if self.is_full:
            fields[3] = fields[4] = 0
        return os.statvfs_result(fields) if room is not None else None


@dataclass(frozen=True)
class Rollout:
    """A rollout of this release to an nginx that a test may change."""

    host: Host
    nginx: Nginx
    release: Path
    rollout: str = "r1"
    options: Options = Options(rehearse=False)

    def found(self, ask: Ask, allowed_ask: Ask | None = None) -> set[str]:
        """The words of a preflight for this request."""
        layout = locate(self.host, self.nginx.layout)
        store = Store(self.host, str(self.nginx.folder / "state"))
        instance = Instance.at(self.host, layout)._replace(kept=store.instance(str(layout.pid_file)))
        goal = Goal(str(self.host.sha256(str(self.release))), Rest.HELD)
        allowed = MAY_DO[allowed_ask or ask]
        request = Request(PROTOCOL, ask, self.rollout, 1, "ada", goal, allowed, layout, self.options)
        seen = instance.look()
        self.host.ran.clear()
        result = preflight(instance, request, seen, str(self.release))
        return {one.reason for one in result.findings} - {"rehearsal_off"}

    @property
    def has_tried(self) -> bool:
        """Whether the last preflight ran a binary."""
        return any("-V" in argv for argv in self.host.ran)


@pytest.fixture
def rollout(nginx: Nginx, release: Path, tmp_path: Path) -> Rollout:
    """One whose stage found nothing."""
    own = tmp_path / "release"
    shutil.copy(release, own)
    found = Rollout(Host(), nginx, own)
    assert found.found(Ask.STAGE) == set()
    assert found.has_tried
    return found


def test_the_upgrade_tries_nothing_again_that_stage_has_found(rollout: Rollout) -> None:
    assert rollout.found(Ask.UPGRADE) == set()
    assert not rollout.has_tried


def reload(rollout: Rollout) -> None:
    before = rollout.nginx.look().masters[0].workers
    os.kill(rollout.nginx.pid(), signal.SIGHUP)
    wait_until(
        lambda: len(now := rollout.nginx.look().masters[0].workers) == 2 and not set(now) & set(before), "a reload"
    )


def put(path: Path, text: str) -> None:
    """Write the file in place."""
    path.write_text(text)


CHANGES: dict[str, Callable[[Rollout], object]] = {
    "the configuration was edited": lambda it: put(it.nginx.folder / "nginx.conf", "events {}"),
    "a file was added to an included folder": lambda it: put(it.nginx.folder / "more" / "new.conf", "# nothing"),
    "a file that the configuration names": lambda it: put(it.nginx.folder / "nginx.pid", f"{it.nginx.pid()}\n"),
    "the release was damaged in place": lambda it: put(it.release, "damaged"),
    "the binary was replaced": lambda it: make_release("new", it.nginx.binary.with_suffix(".new")).rename(
        it.nginx.binary
    ),
    "the binary's times": lambda it: it.nginx.binary.touch(),
    "nginx was reloaded": reload,
    "an hour has passed": lambda it: setattr(it.host, "later_s", HOLDS_S),
    "the host was booted": lambda it: setattr(it.host, "boot", "boot-2"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_after_a_change_the_upgrade_tries_all_of_it_again(rollout: Rollout, change: str) -> None:
    CHANGES[change](rollout)

    rollout.found(Ask.UPGRADE)

    assert rollout.has_tried


OTHERS: dict[str, Callable[[Rollout], Rollout]] = {
    "another rollout": lambda it: replace(it, rollout="r2"),
    "other probes": lambda it: replace(it, options=it.options._replace(probes=(Probe("http://127.0.0.1:1/"),))),
    "with the rehearsal": lambda it: replace(it, options=it.options._replace(rehearse=True)),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_request_tries_it_all_itself(rollout: Rollout, other: str) -> None:
    asked = OTHERS[other](rollout)

    asked.found(Ask.UPGRADE)

    assert asked.has_tried


def test_a_release_that_was_damaged_since_is_refused(rollout: Rollout) -> None:
    rollout.release.write_text("damaged")

    assert "wrong_architecture" in rollout.found(Ask.UPGRADE)


def test_what_costs_little_is_looked_at_each_time(rollout: Rollout) -> None:
    rollout.host.is_full = True

    assert "disk_full" in rollout.found(Ask.UPGRADE)
    assert not rollout.has_tried


def test_a_master_that_was_poisoned_since_is_found_in_its_log(rollout: Rollout) -> None:
    with open(rollout.nginx.folder / "error.log", "a") as log:
        log.write(LINE % (rollout.nginx.pid(), POISON[0]) + "\n")

    assert rollout.found(Ask.UPGRADE) == {"poisoned"}
    assert not rollout.has_tried


def test_a_stage_that_refuses_and_a_check_keep_nothing(nginx: Nginx, release: Path, tmp_path: Path) -> None:
    bad = Rollout(Host(), nginx, make_release("truncated", tmp_path / "bad"))
    assert "cannot_run" in bad.found(Ask.STAGE)
    Rollout(Host(), nginx, release).found(Ask.STAGE, allowed_ask=Ask.LOOK)

    assert list(tmp_path.glob(f"state/instances/*/{EARLIER}")) == []
