"""Labs for tests. Each is bound to this test process: after a run that was killed, the next run removes its labs."""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from fleet.lab.folder import LabPaths, lab_paths
from fleet.lab.lab import Lab, clear_abandoned, down
from fleet.lab.processes import this_process
from fleet.lab.releases.build import make_release
from tests.support.lab.operator import FORKS

NUMBERS = itertools.count(1)
REHEARSE = "FLEET_REHEARSE"
REHEARSED = frozenset(
    {
        "test_bad_releases.py",  # preflight refuses most of them by the rehearsal alone
        "test_cures.py",
        "test_demo.py",
        "test_inventories.py",
        "test_known_lines.py",  # the lines of the running release are rehearsed
        "test_moved_address.py",  # the copy can't bind the address
        "test_no_trace.py",
        "test_preflight.py",
        "test_probes.py",
        "test_processors.py",
        "test_refusals.py",
        "test_rehearsal.py",
        "test_rehearse_option.py",
        "test_ssh.py",
        "test_systemd.py",  # other hosts, other surroundings of the copy
        "test_story.py",  # the whole story, with no setting but the paces
    }
)
"""The modules of this folder whose rollouts rehearse, as `fleet` does unless it is told not to.

They are about preflight, or their hosts are of kinds on which it has more to look at, or they are the story that every
operator sees. All others are about what comes after preflight, on plain hosts and with a good release: two rehearsals for
each upgrade of each host (0.8 s each) would show nothing new there. A module that is forgotten here fails where it
expects what only the rehearsal finds.
"""


class MakeLab(Protocol):
    """Starts a lab for this test module; it is removed after the module's last test."""

    def __call__(
        self,
        count: int = ...,
        kinds: Mapping[str, str] | None = ...,
        *,
        show: Sequence[str] = ...,
    ) -> Lab: ...


@pytest.fixture(scope="module", autouse=True)
def rehearsed_where_it_matters(request: pytest.FixtureRequest) -> Iterator[None]:
    """The `fleet` commands of a module rehearse only if it is listed above."""
    with pytest.MonkeyPatch.context() as patch:
        if Path(request.path).name in REHEARSED:
            patch.delenv(REHEARSE, raising=False)
        else:
            patch.setenv(REHEARSE, "off")
        yield


@pytest.fixture(scope="session", autouse=True)
def no_abandoned_labs() -> None:
    """Remove the labs of earlier runs that were killed."""
    clear_abandoned()


@pytest.fixture(scope="session", autouse=True)
def no_command_is_left() -> Iterator[None]:
    """No `fleet` command outlives the tests."""
    with FORKS:
        yield


@pytest.fixture(scope="session")
def lab_name() -> Callable[[], str]:
    """Gives names that no other lab has: not of another run, another worker of pytest-xdist, or another test."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "w")
    return lambda: f"t{os.getpid()}-{worker}-{next(NUMBERS)}"


@pytest.fixture
def paths(lab_name: Callable[[], str], tmp_path: Path) -> Iterator[LabPaths]:
    """The paths of a lab in this test's own folder. A lab that the test leaves there is removed."""
    chosen = lab_paths(lab_name(), tmp_path)
    yield chosen
    down(chosen)


@pytest.fixture(scope="module")
def make_lab(lab_name: Callable[[], str]) -> Iterator[MakeLab]:
    """The factory of this module's labs."""
    with ExitStack() as labs:
        yield _factory(labs, lab_name)


def _factory(labs: ExitStack, lab_name: Callable[[], str]) -> MakeLab:
    def make(
        count: int = 3,
        kinds: Mapping[str, str] | None = None,
        *,
        show: Sequence[str] = (),
    ) -> Lab:
        lab = Lab.up(lab_name(), count, kinds, owner=this_process(), show=show)
        labs.callback(lab.down)
        return lab

    return make


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good release, newer than what the lab's hosts run."""
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    """Three plain hosts, shared by the tests of a module."""
    return make_lab()
