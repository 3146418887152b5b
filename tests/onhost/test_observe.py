"""What a look at a real nginx says of the files around it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.onhost.machine import Machine
from fleet.onhost.observe import Observer
from fleet.onhost.protocol import Layout
from tests.private_nginx import PrivateNginx


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[PrivateNginx]:
    found = PrivateNginx(tmp_path).start_well()
    yield found
    found.end()


@pytest.mark.parametrize("pid", ["", "99999999", "the master's own"])
def test_an_oldbin_that_names_no_older_master_is_litter(pid: str, nginx: PrivateNginx) -> None:
    """After a power cut it is always there, and the pid in it may be anybody's by then."""
    stale = Path(f"{nginx.pid_file}.oldbin")
    stale.write_text(f"{nginx.master()}\n" if pid == "the master's own" else pid)

    look = Observer(Machine(), Layout(pid_file=str(nginx.pid_file))).look()

    assert look.litter == (str(stale),)


def test_an_oldbin_that_names_the_older_master_of_two_is_none(nginx: PrivateNginx, tmp_path: Path) -> None:
    old, new = nginx.upgrade(nginx.binary)

    look = Observer(Machine(), Layout(pid_file=str(nginx.pid_file))).look()

    assert ([one.pid for one in look.masters], look.oldbin_pid, look.litter) == ([old, new], old, ())
