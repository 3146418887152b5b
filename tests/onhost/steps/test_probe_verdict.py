"""A probe speaks against the release that fails it alone: whole upgrades of a real nginx, with a cause that both share."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.lab.releases.build import make_release
from fleet.onhost.protocol import Ask, Options, Outcome, Phase, Probe, State, Step
from fleet.onhost.steps import probe_verdict
from fleet.onhost.steps.probe_verdict import BOTH_POLL_S
from tests.onhost.test_failure_modes import Heard, Just, comes_back, held
from tests.onhost.visit.test_dispatch import is_as_before
from tests.support.private_nginx import PrivateNginx

SWITCH = 'location = /switch { if (-f $document_root/down) { return 503; } return 200 "up"; }'


@dataclass
class Probed(Heard):
    """A host with a page that both releases serve, and that a file takes down. `at` is what its one probe asks."""

    at: str = "{target}/switch"
    allow: tuple[str, ...] = ()

    @property
    def options(self) -> Options:
        return Options(settle_s=0.1, probes=(self.probe,), allow=self.allow, rehearse=False)

    @property
    def probe(self) -> Probe:
        return Probe("http://" + self.at.format(target=self.nginx.target, folder=self.nginx.folder))

    def down(self, *_: object) -> None:
        (self.nginx.folder / "html" / "down").touch()

    def up(self, *_: object) -> None:
        (self.nginx.folder / "html" / "down").unlink(missing_ok=True)


class Recovers(Just):
    """The page goes down just before USR2, and is up again when fleet has seen both releases fail."""

    def __init__(self, host: Probed) -> None:
        super().__init__(signal.SIGUSR2, host.down)
        self.host = host

    def pause(self, seconds: float = 0.01) -> None:
        if seconds == BOTH_POLL_S:
            self.host.up()
        super().pause(seconds)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("errors", tmp_path_factory.mktemp("release") / "nginx")


@pytest.fixture
def host(tmp_path: Path, release: Path) -> Iterator[Probed]:
    found = Probed(PrivateNginx(tmp_path, more=SWITCH).start_well(), "")
    found.store(release)
    yield found
    found.nginx.end()


def test_a_probe_that_the_running_release_fails_is_refused_before_anything_is_changed(host: Probed) -> None:
    before, master = host.sha256(), host.nginx.master()
    host.down()

    end, report = host.visit(Ask.UPGRADE)

    assert (end.outcome, end.reason) == (Outcome.REFUSED, "probe_fails_already"), end
    assert "`fleet_probes[0]`" in end.message
    assert "answered 503 instead of 200" in end.message
    assert "--allow probe-fails-already" in end.remedy
    assert host.steps == []
    is_as_before(host, report, before, master)


def test_one_that_begins_to_fail_after_preflight_is_refused_before_usr2(host: Probed) -> None:
    before, master = host.sha256(), host.nginx.master()

    end, report = host.visit(Ask.UPGRADE, host.after(Step.SWAP, host.down))

    assert (end.outcome, end.reason) == (Outcome.REFUSED, "probe_fails_already"), end
    assert host.steps[:2] == [(Step.SWAP, Outcome.DONE), (Step.LAUNCH, Outcome.REFUSED)]
    is_as_before(host, report, before, master)


@pytest.mark.parametrize("at", ["{target}/switch", "{target}/teapot", "127.0.0.1:1/", "unix:{folder}/n.sock:/"])
def test_an_allowed_failure_counts_nowhere_in_the_rollout(host: Probed, at: str) -> None:
    """A page that is down, another status, and addresses where nginx does not listen."""
    master, host.at, host.allow = host.nginx.master(), at, ("probe-fails-already",)
    host.down()

    end, report = host.visit(Ask.UPGRADE)

    assert (end.outcome, report.phase) == (Outcome.DONE, Phase.TRIAL), end
    assert "probe_not_counted" in host.words
    assert report.record is not None
    assert report.record.uncounted == (host.probe,)
    assert host.visit(Ask.BAKE)[0].outcome is Outcome.DONE
    assert comes_back(host, master).phase is Phase.OLD


def test_a_probe_that_was_corrected_since_counts_again(host: Probed) -> None:
    host.at, host.allow = "{target}/teapot", ("probe-fails-already",)
    held(host)
    host.at = "{target}/missing"

    end, _ = host.visit(Ask.BAKE)

    assert end.reason == "probe_failed", end
    assert "no accepting worker, so it was not asked" in end.message


def test_what_only_the_new_release_fails_speaks_against_it(host: Probed, errors: Path) -> None:
    before, master = host.sha256(), host.nginx.master()
    host.store(errors)

    end, report = host.visit(Ask.UPGRADE)

    assert (end.outcome, end.reason) == (Outcome.FAILED, "probe_failed"), end
    assert "answered 500 instead of 200" in end.message
    assert "The other release answers it as it should." in end.message
    is_as_before(host, report, before, master)


def test_what_both_releases_fail_speaks_against_neither(host: Probed, monkeypatch: pytest.MonkeyPatch) -> None:
    before, master = host.sha256(), host.nginx.master()
    monkeypatch.setattr(probe_verdict, "BOTH_FAIL_S", 1.0)
    host.machine = Just(signal.SIGUSR2, host.down)

    end, report = host.visit(Ask.UPGRADE)

    assert (end.outcome, end.reason) == (Outcome.FAILED, "probe_fails_on_both"), end
    assert end.message.count("answered 503 instead of 200") == 2
    is_as_before(host, report, before, master)


def test_a_moment_in_which_both_fail_is_waited_for(host: Probed) -> None:
    host.machine = Recovers(host)

    held(host)

    assert "probe_no_evidence" in host.words


def test_a_bad_release_is_not_excused_by_a_moment_in_which_both_fail(host: Probed, errors: Path) -> None:
    before, master = host.sha256(), host.nginx.master()
    host.store(errors)
    host.machine = Recovers(host)

    end, report = host.visit(Ask.UPGRADE)

    assert (end.outcome, end.reason) == (Outcome.FAILED, "probe_failed"), end
    assert "answered 500 instead of 200" in end.message
    is_as_before(host, report, before, master)


def test_the_way_back_after_a_commit_waits_for_no_answer_that_both_owe(host: Probed) -> None:
    before = host.sha256()
    held(host)
    assert host.visit(Ask.COMMIT)[0].outcome is Outcome.DONE
    host.down()

    end, report = host.visit(Ask.ROLLBACK)

    assert (end.outcome, report.running_sha256, report.phase) == (Outcome.DONE, before, Phase.OLD), end
    assert "probe_no_evidence" in host.words
    assert report.record is not None
    assert report.record.state is State.ROLLED_BACK
