"""A launch at a master that does not hear USR2: no signal is sent that can't be taken back, and none is guessed about."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.lab.releases.build import make_release
from fleet.onhost.protocol import Ask, Outcome, Step
from fleet.onhost.steps import launch
from fleet.onhost.system.machine import Machine
from tests.onhost.test_failure_modes import Heard
from tests.onhost.visit.test_dispatch import is_as_before
from tests.support.deaf_nginx import that_blocks
from tests.support.private_nginx import PrivateNginx


class Unseen(Machine):
    """A host that shows no signal masks, until `shows` is set."""

    shows = False

    def read(self, path: str) -> str | None:
        return None if path.endswith("/status") and not self.shows else super().read(path)


class ShownTooLate(Unseen):
    """The masks are seen only once USR2 was sent."""

    def signal(self, pid: int, start: int, signum: int) -> None:
        self.shows = True
        super().signal(pid, start, signum)


class ShownAfterPreflight(Unseen):
    """The masks are seen once the new binary lies at the path."""

    def exchange(self, one: str, other: str) -> bool:
        self.shows = self.shows or other.endswith("/sbin/nginx")
        return super().exchange(one, other)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


@pytest.fixture
def host(tmp_path: Path, release: Path) -> Iterator[Heard]:
    """A host whose master blocks every signal."""
    found = Heard(PrivateNginx(tmp_path, that_blocks(tmp_path / "deaf")).start_well(), "")
    found.store(release)
    yield found
    found.nginx.end()


def pending(pid: int) -> bool:
    masks = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool((int(masks["SigPnd"], 16) | int(masks["ShdPnd"], 16)) & 1 << (signal.SIGUSR2 - 1))


def test_a_deaf_master_is_refused_in_preflight_and_gets_no_signal(host: Heard) -> None:
    before, master = host.sha256(), host.nginx.master()

    end, report = host.visit(Ask.UPGRADE)

    assert (end.outcome, end.reason, host.steps) == (Outcome.REFUSED, "signals_unheard", []), end
    assert "USR2 (blocked)" in end.message
    assert f"/proc/{master}/maps" in end.remedy
    assert not pending(master)
    is_as_before(host, report, before, master)


def test_one_that_turns_deaf_after_preflight_gets_no_signal_either(host: Heard) -> None:
    before, master = host.sha256(), host.nginx.master()
    host.machine = ShownAfterPreflight()

    end, report = host.visit(Ask.UPGRADE)

    assert (end.outcome, end.reason) == (Outcome.REFUSED, "signals_unheard"), end
    assert host.steps[:2] == [(Step.SWAP, Outcome.DONE), (Step.LAUNCH, Outcome.REFUSED)]
    assert not pending(master)
    is_as_before(host, report, before, master)


def test_a_signal_that_was_sent_all_the_same_is_said_to_be_pending(
    host: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, master = host.sha256(), host.nginx.master()
    monkeypatch.setattr(launch, "LAUNCH_SEEN_S", 0.5)
    host.machine = ShownTooLate()

    end, report = host.visit(Ask.UPGRADE)

    assert (end.outcome, end.reason) == (Outcome.FAILED, "usr2_pending"), end
    assert "because USR2 is blocked there" in end.message
    assert str(host.nginx.binary) in end.message
    assert pending(master)
    is_as_before(host, report, before, master)

    # From then on the host is not called fit for an upgrade.
    host.machine = Machine()
    end, report = host.visit(Ask.STAGE)

    assert end.outcome is Outcome.REFUSED
    assert {"signals_unheard", "signal_pending"} <= set(host.words)
    is_as_before(host, report, before, master)


def test_a_pending_signal_alone_is_refused_too(host: Heard) -> None:
    os.kill(host.nginx.master(), signal.SIGUSR2)

    end, _ = host.visit(Ask.UPGRADE)

    assert "signal_pending" in host.words
    assert "signal pending that it does not act on: USR2" in end.message
