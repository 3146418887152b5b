"""For the whole suite: the order of modules, no unlisted skip, no deadline of hypothesis, the Pythons that are tried."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.onhost.pythons import found_pythons, missing_pythons
from tests.support.order import long_modules_first
from tests.support.pretend.visits import a_fleet
from tests.support.shell import Shell, an_inventory
from tests.support.skips import ALLOWED, allowed_skips, objection

# No deadline: a slow machine is not a failure. CI draws the same examples each time; a laptop draws new ones. No
# database: each failure prints how to repeat it.
settings.register_profile("fleet", deadline=None, database=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("fleet")


@pytest.fixture(scope="session", autouse=True)
def no_test_writes_to_the_user_s_folders(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """Where a journal and the psutil of other platforms are kept by default is another folder for all the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Four hosts, as the pretend fleet has them."""
    return an_inventory(tmp_path / "hosts.yaml")


@pytest.fixture
def shell(inventory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A command line before four pretend hosts, with a journal of its own."""
    monkeypatch.setenv("FLEET_JOURNAL", str(inventory.with_name("journal.db")))
    for name in ("FLEET_INVENTORY", "FLEET_LIMIT", "FLEET_YES", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return Shell(a_fleet(4), inventory, capsys)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    long_modules_first(items)


def pytest_report_header() -> str:
    tried = ", ".join(python.version for python in found_pythons())
    untried = ", ".join(missing_pythons())
    return f"on-host script: tried on Python {tried}" + (f"; not on this machine: {untried}" if untried else "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped:
        _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        _refuse(report)
    return report


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    said = objection(report.nodeid, _reason(report), allowed_skips(ALLOWED.read_text()))
    if said is None:
        return
    report.outcome = "failed"
    report.longrepr = said
    if hasattr(report, "wasxfail"):
        del report.wasxfail


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail) or "expected to fail"
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
